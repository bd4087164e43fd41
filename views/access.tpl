% rebase('layout.tpl', title=_('Access'))
<h1>{{_('Access')}}</h1>
% include('others.tpl', part=part, problem=problem, catalog_problem=catalog_problem)
% if notice:
<p class="notice" role="status">{{_(notice)}}</p>
% end
% if damaged and quarantine_failed:
<p class="problem" role="alert">{{_('The list is damaged and could not be read, and the file {file} could not be set aside. Please add the names again.', file=damaged.name)}}</p>
% elif damaged:
<p class="problem" role="alert">{{_('The list was damaged and could not be read. It was set aside as {file}; please add the names again.', file=damaged.name)}}</p>
% end
<p>{{_('These pages answer to every address of the device, to its own names, and to the names listed here. Add the name that a router or a proxy gave it.')}}</p>
% if listed:
<ul class="card list">
%   for name in listed:
<li>
<form method="post" action="/others/access" data-saved>
<input type="hidden" name="token" value="{{token}}">
<input type="hidden" name="revision" value="{{revision}}">
<input type="hidden" name="name" value="{{name}}">
<span>{{name}}</span>
<button name="do" value="remove" class="quiet" aria-label="{{_('Remove {address}', address=name)}}">{{_('Remove')}}</button>
</form>
</li>
%   end
</ul>
% else:
<p>{{_('No name is listed.')}}</p>
% end
% if len(listed) < maximum:
<form method="post" action="/others/access" class="card" novalidate autocomplete="off" data-{{'unsaved' if typed else 'saved'}}>
<h2>{{_('Add a name')}}</h2>
<input type="hidden" name="token" value="{{token}}">
<input type="hidden" name="revision" value="{{revision}}">
<div class="field{{' wrong' if broken else ''}}">
<label for="name">{{_('Host name')}}</label>
<p class="help" id="name-help">{{_('As in the browser’s address bar, such as nas.example. Up to {maximum} names.', maximum=maximum)}}</p>
%   if broken:
<p class="error" id="name-error">{{_(broken.sentence)}}
%     for hint in broken.hints:
<span class="hint">{{_(hint)}}</span>
%     end
</p>
%   end
<input id="name" name="name" type="text" inputmode="url" autocapitalize="none" spellcheck="false" maxlength="508" value="{{typed}}" aria-describedby="name-help{{' name-error' if broken else ''}}"{{!' aria-invalid="true" autofocus' if broken else ''}}>
</div>
<button name="do" value="add">{{_('Add')}}</button>
</form>
% else:
<p>{{_('The list is full: {maximum} names. Remove one to add another.', maximum=maximum)}}</p>
%   if broken:
<p class="problem" role="alert">{{_(broken.sentence)}}</p>
%   end
% end
