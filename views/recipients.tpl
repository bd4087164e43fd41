% rebase('layout.tpl', title='Recipients')
<h1>Recipients</h1>
% if notice:
<div class="notice">
<p role="status">{{notice}}</p>
%   if undo:
<form method="post" action="/recipients">
<input type="hidden" name="revision" value="{{revision}}">
%     for name, value in undo.items():
<input type="hidden" name="{{name}}" value="{{value}}">
%     end
<button name="do" value="restore" class="second">Undo</button>
</form>
%   end
</div>
% end
% if problem:
<p class="problem" role="alert" tabindex="-1" autofocus>{{problem}}</p>
% end
% if damaged:
<p class="problem" role="alert">The list was damaged and could not be read. It was set aside as {{damaged.name}}; please add the addresses again.</p>
% end
% def choice(id, selected):
<select id="{{id}}" name="lowest">
%   for value, words in lowest.items():
<option value="{{value}}"{{!' selected' if value == selected else ''}}>{{words}}</option>
%   end
</select>
% end
% if listed:
<ul class="card list">
%   for number, recipient in enumerate(listed):
<li>
<form method="post" action="/recipients" data-saved>
<input type="hidden" name="revision" value="{{revision}}">
<input type="hidden" name="address" value="{{recipient.address}}">
<label for="lowest-{{number}}">{{recipient.address}}</label>
%     choice('lowest-%d' % number, recipient.lowest)
<button name="do" value="change" class="second" aria-label="Save {{recipient.address}}">Save</button>
<button name="do" value="remove" class="quiet" aria-label="Remove {{recipient.address}}">Remove</button>
</form>
</li>
%   end
</ul>
% elif default:
<p>Nobody is listed, so mail goes to the SMTP account: <strong>{{default}}</strong>.</p>
% else:
<p>Nobody is listed. Mail will go to the SMTP account’s address once the SMTP tab is saved.</p>
% end
% if len(listed) < maximum:
<form method="post" action="/recipients" class="card" novalidate autocomplete="off" data-{{'unsaved' if typed else 'saved'}}>
<h2>Add an address</h2>
<input type="hidden" name="revision" value="{{revision}}">
<div class="field{{' wrong' if broken else ''}}">
<label for="address">E-mail address</label>
<p class="help" id="address-help">Up to {{maximum}} addresses.</p>
%   if broken:
<p class="error" id="address-error">{{broken.sentence}}</p>
%   end
<input id="address" name="address" type="text" inputmode="email" autocapitalize="none" spellcheck="false" maxlength="202" value="{{typed.get('address', '')}}" aria-describedby="address-help{{' address-error' if broken else ''}}"{{!' aria-invalid="true" autofocus' if broken else ''}}>
</div>
<div class="field">
<label for="lowest">Gets</label>
%   choice('lowest', typed.get('lowest', 'info'))
</div>
<button name="do" value="add">Add</button>
</form>
% else:
<p>The list is full: {{maximum}} addresses. Remove one to add another.</p>
%   if broken:
<p class="problem" role="alert">{{broken.sentence}}</p>
%   end
% end
