% rebase('layout.tpl', title=_('Event Codes'))
<h1>{{_('Event Codes')}}</h1>
% include('others.tpl', part=part, problem=problem, catalog_problem=catalog_problem)
% if kinds:
<p>{{_('Every event that the device can record. An unknown code is mailed too, as a fault.')}}</p>
<div class="scroll" role="region" aria-label="{{_('Event codes')}}" tabindex="0">
% heads = (_('Code'), _('Type'), _('Name'), _('Description'), _('Mailed'))
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
<tr>
<td data-label="{{heads[0]}}">{{kind['code']}}</td>
<td data-label="{{heads[1]}}">{{_(kind['type'])}}</td>
<td class="mid" data-label="{{heads[2]}}">{{_(kind['name'])}}</td>
<td class="long" data-label="{{heads[3]}}">{{_(kind['description'])}}</td>
<td data-label="{{heads[4]}}">\\
%     if kind['mail']:
<a href="/others/email-content?code={{kind['code']}}" aria-label="{{_('yes, the mail of {code}', code=kind['code'])}}">{{_('yes')}}</a>\\
%     else:
{{_('no, kept only')}}\\
%     end
</td>
</tr>
%   end
</tbody>
</table>
</div>
% end
