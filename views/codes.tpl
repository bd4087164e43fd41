% rebase('layout.tpl', title='Event Codes')
<h1>Event Codes</h1>
% include('others.tpl', part=part, problem=problem, catalog_problem=catalog_problem)
% if kinds:
<p>Every event that the device can record. An unknown code is mailed too, as a fault.</p>
<div class="scroll" role="region" aria-label="Event codes" tabindex="0">
<table>
<thead>
<tr><th scope="col">Code</th><th scope="col">Type</th><th scope="col">Name</th><th scope="col">Description</th><th scope="col">Mailed</th></tr>
</thead>
<tbody>
%   for kind in kinds:
<tr>
<td>{{kind['code']}}</td>
<td>{{kind['type']}}</td>
<td class="mid">{{kind['name']}}</td>
<td class="long">{{kind['description']}}</td>
<td>\\
%     if kind['mail']:
<a href="/others/email-content?code={{kind['code']}}" aria-label="The mail of {{kind['code']}}">yes</a>\\
%     else:
no, kept only\\
%     end
</td>
</tr>
%   end
</tbody>
</table>
</div>
% end
