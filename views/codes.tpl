% rebase('layout.tpl', title=_('Event Codes'))
<h1>{{_('Event Codes')}}</h1>
% include('others.tpl', part=part, problem=problem, catalog_problem=catalog_problem)
% if notice:
<p class="notice" role="status">{{_(notice)}}</p>
% end
% if damaged and quarantine_failed:
<p class="problem" role="alert">{{_('What is mailed was damaged and could not be read, and the file {file} could not be set aside. Every event is mailed at once; please choose again.', file=damaged.name)}}</p>
% elif damaged:
<p class="problem" role="alert">{{_('What is mailed was damaged and could not be read. It was set aside as {file}. Every event is mailed at once; please choose again.', file=damaged.name)}}</p>
% end
% include('notify.tpl')
% if count:
<form action="/others/event-codes" class="card filters">
<div>
<label for="type">{{_('Type')}}</label>
<select id="type" name="type">
%   for value, words in types.items():
<option value="{{value}}"{{!' selected' if value == typed.get('type', '') else ''}}>{{_(words)}}</option>
%   end
</select>
</div>
%   for name, label in (('code', 'Code'), ('text', 'Text')):
<div>
<label for="{{name}}">{{_(label)}}</label>
<input id="{{name}}" name="{{name}}" type="{{'text' if name == 'code' else 'search'}}" value="{{typed.get(name, '')}}">
</div>
%   end
<button>{{_('Filter')}}</button>
<a href="/others/event-codes">{{_('Show all')}}</a>
</form>
<p>{{_('Every event that the device can record. An unknown code is mailed too, as a fault.')}}</p>
%   if typed and kinds:
<p>{{_('{shown} of {count} codes.', shown=len(kinds), count=count)}}</p>
%   elif typed:
<p>{{_('No code matches.')}}</p>
%   end
% end
% if kinds:
<div class="scroll" role="region" aria-label="{{_('Event codes')}}" tabindex="0">
% heads = (_('Code'), _('Type'), _('Name'), _('Description'), _('Mailed'), _('When'))
<table class="rows">
<thead>
<tr>
%   for head in heads:
<th scope="col">{{head}}</th>
%   end
</tr>
</thead>
<tbody>
%   for kind in kinds:
%     has_choice = kind['mail'] and not kind.get('periodic')
<tr id="code-{{kind['code']}}">
<td data-label="{{heads[0]}}"><a href="/history?code={{kind['code']}}" aria-label="{{_('History of {code}', code=kind['code'])}}">{{kind['code']}}</a></td>
<td data-label="{{heads[1]}}">{{_(kind['type'])}}</td>
<td class="mid" data-label="{{heads[2]}}">\\
%     if has_choice:
<label for="when-{{kind['code']}}">{{_(kind['name'])}}</label>\\
%     else:
{{_(kind['name'])}}\\
%     end
</td>
<td class="long" data-label="{{heads[3]}}">{{_(kind['description'])}}</td>
<td data-label="{{heads[4]}}">\\
%     if kind['mail']:
<a href="/others/email-content?code={{kind['code']}}" aria-label="{{_('yes, the mail of {code}', code=kind['code'])}}">{{_('yes')}}</a>\\
%     else:
{{_('no, kept only')}}\\
%     end
</td>
<td data-label="{{heads[5]}}">\\
%     if has_choice:
<select form="notify" id="when-{{kind['code']}}" name="{{kind['code']}}">
%       for value, label in choices.items():
<option value="{{value}}"{{!' selected' if value == form.get(kind['code'], 'at-once') else ''}}>{{_(label)}}</option>
%       end
</select>\\
%     elif kind['mail']:
<a href="#sign_of_life">{{_('as chosen above')}}</a>\\
%     end
</td>
</tr>
%   end
</tbody>
</table>
</div>
% end
