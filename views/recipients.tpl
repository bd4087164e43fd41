% rebase('layout.tpl', title=_('Recipients'))
<h1>{{_('Recipients')}}</h1>
% if notice:
<div class="notice">
<p role="status">{{_(notice)}}</p>
%   if undo:
<form method="post" action="{{action}}">
<input type="hidden" name="token" value="{{token}}">
<input type="hidden" name="revision" value="{{revision}}">
%     for name, value in undo.items():
<input type="hidden" name="{{name}}" value="{{value}}">
%     end
<button name="do" value="restore" class="second">{{_('Undo')}}</button>
</form>
%   end
</div>
% end
% if problem:
<p class="problem" role="alert" tabindex="-1" autofocus>{{_(problem)}}</p>
% end
% if damaged and quarantine_failed:
<p class="problem" role="alert">{{_('The list is damaged and could not be read, and the file {file} could not be set aside. Please add the addresses again.', file=damaged.name)}}</p>
% elif damaged:
<p class="problem" role="alert">{{_('The list was damaged and could not be read. It was set aside as {file}; please add the addresses again.', file=damaged.name)}}</p>
% end
% def choice(id, selected):
<select id="{{id}}" name="lowest">
%   for value, words in lowest.items():
<option value="{{value}}"{{!' selected' if value == selected else ''}}>{{_(words)}}</option>
%   end
</select>
% end
% def spoken(selected, label=''):
<select{{!label}} name="language">
%   for code, name in languages.items():
<option value="{{code}}" lang="{{code}}"{{!' selected' if code == (selected or device['device.language']) else ''}}>{{name}}</option>
%   end
</select>
% end
% if test:
<div id="test" data-script="{{asset('test.js')}}">
%   include('test.tpl', **test)
</div>
% end
% if listed:
%   if len(listed) > 1:
<p class="help sorts">{{_('Sort by:')}}
%     for word, name in sorts.items():
<a href="/recipients{{'?sort=' + word if word else ''}}"{{!' aria-current="true"' if word == sort else ''}}>{{_(name)}}</a>
%     end
</p>
%   end
<ul class="card list">
%   for number, recipient in enumerate(listed):
<li>
<form method="post" action="{{action}}" data-saved>
<input type="hidden" name="token" value="{{token}}">
<input type="hidden" name="revision" value="{{revision}}">
<input type="hidden" name="address" value="{{recipient.address}}">
<label for="lowest-{{number}}">{{recipient.address}}</label>
%     choice('lowest-%d' % number, recipient.lowest)
<label class="unseen" for="language-{{number}}">{{_('Language of the mail to {address}', address=recipient.address)}}</label>
%     spoken(recipient.language, ' id="language-%d"' % number)
<button name="do" value="change" class="second" aria-label="{{_('Save {address}', address=recipient.address)}}">{{_('Save')}}</button>
<button formaction="/recipients/test" class="quiet" aria-label="{{_('Send a test to {address}', address=recipient.address)}}">{{_('Test')}}</button>
<button name="do" value="remove" class="quiet" aria-label="{{_('Remove {address}', address=recipient.address)}}">{{_('Remove')}}</button>
</form>
%     is_delivered, became = last(recipient.address)
%     if became:
<p class="{{'help' if is_delivered else 'error'}}">{{'✓' if is_delivered else '✗'}} {{became}}</p>
%     end
</li>
%   end
</ul>
% elif default:
<p>{{_('No address is listed, so mail goes to the SMTP account:')}} <strong>{{default}}</strong></p>
% else:
<p>{{_('No address is listed. Mail will go to the SMTP account’s address once the SMTP tab is saved.')}}</p>
% end
% if len(listed) < maximum:
<form method="post" action="{{action}}" class="card" novalidate autocomplete="off" data-{{'unsaved' if typed else 'saved'}}>
<h2>{{_('Add an address')}}</h2>
<input type="hidden" name="token" value="{{token}}">
<input type="hidden" name="revision" value="{{revision}}">
<div class="field{{' wrong' if broken else ''}}">
<label for="address">{{_('E-mail address')}}</label>
<p class="help" id="address-help">{{_('Up to {maximum} addresses.', maximum=maximum)}}</p>
%   if broken:
<p class="error" id="address-error">{{_(broken.sentence)}}
%     for hint in broken.hints:
<span class="hint">{{_(hint)}}</span>
%     end
</p>
%   end
<input id="address" name="address" type="text" inputmode="email" autocapitalize="none" spellcheck="false" maxlength="202" value="{{typed.get('address', '')}}" aria-describedby="address-help{{' address-error' if broken else ''}}"{{!' aria-invalid="true" autofocus' if broken else ''}}>
</div>
<div class="field">
<label for="lowest">{{_('Gets')}}</label>
%   choice('lowest', typed.get('lowest', 'info'))
</div>
<div class="field">
<label for="language">{{_('Language of the mail')}}</label>
%   spoken(typed.get('language', ''), ' id="language"')
</div>
<button name="do" value="add">{{_('Add')}}</button>
</form>
% else:
<p>{{_('The list is full: {maximum} addresses. Remove one to add another.', maximum=maximum)}}</p>
%   if broken:
<p class="problem" role="alert">{{_(broken.sentence)}}</p>
%   end
% end
