% rebase('layout.tpl', title='History')
<h1>History</h1>
% if problem:
<p class="problem" role="alert" tabindex="-1" autofocus>{{problem}}</p>
% end
% if catalog_problem:
%   include('catalog_problem.tpl', problem=catalog_problem)
% end
% if set_aside:
<p class="problem" role="alert">An earlier history was damaged or lost. What is left of it was set aside as {{set_aside}}; mail that waited in it was not sent.</p>
% end
<form action="/history" class="card filters">
% if wrong:
<p class="error" role="alert" id="wrong" tabindex="-1" autofocus>{{wrong}}</p>
% end
% def box(name, label, kind):
<div>
<label for="{{name}}">{{label}}</label>
<input id="{{name}}" name="{{name}}" type="{{kind}}" value="{{typed.get(name, '')}}"{{!' aria-describedby="wrong"' if wrong else ''}}>
</div>
% end
% box('from', 'From', 'date')
% box('to', 'To', 'date')
<div>
<label for="type">Type</label>
<select id="type" name="type"{{!' aria-describedby="wrong"' if wrong else ''}}>
% for value, words in types.items():
<option value="{{value}}"{{!' selected' if value == typed.get('type', '') else ''}}>{{words}}</option>
% end
</select>
</div>
% box('code', 'Code', 'text')
<input type="hidden" name="sort" value="{{query.sort}}">
<input type="hidden" name="order" value="{{'down' if query.descending else 'up'}}">
<button>Filter</button>
<a href="/history">Show all</a>
</form>
% if events:
<p>Events {{first}} to {{first + len(events) - 1}} of {{matched}}{{'' if matched == kept else ' that match; %d are kept' % kept}}. <a href="{{query.link('/history.csv')}}">All of them as CSV</a></p>
<div class="scroll" role="region" aria-label="Events" tabindex="0">
<table class="rows" data-yours="{time}, your time">
<thead>
<tr>
%   for name, label in columns.items():
%     mine = name == query.sort
<th scope="col"{{!' aria-sort="%s"' % ('descending' if query.descending else 'ascending') if mine else ''}}><a href="{{query.sorted_by(name)}}">{{label}}{{(' ▼' if query.descending else ' ▲') if mine else ''}}</a></th>
%   end
</tr>
</thead>
<tbody>
%   def cell(name, more=''):
<td{{!more}} data-label="{{columns[name]}}">\\
%   end
%   for event in events:
<tr>
% cell('number')
{{event['number']}}</td>
% cell('time', ' class="mid"')
{{!moment(event['time'])}}</td>
% cell('type')
{{event['type']}}</td>
% cell('code')
{{event['code']}}</td>
% cell('name', ' class="long"')
{{event['name']}}
%     if event['text']:
<details><summary>Text</summary><p class="text">{{event['text']}}</p></details>
%     end
</td>
% cell('source', ' class="mid"')
{{event['source']}}</td>
% cell('state', ' class="long"')
{{event['state']}}{{', in mail %s' % event['mail'] if event['mail'] not in (0, event['number']) else ''}}
%     if ends(event):
<ul>
%       for each in ends(event):
<li>{{!moment(each)}}</li>
%       end
</ul>
%     end
</td>
</tr>
%   end
</tbody>
</table>
</div>
% elif matched:
<p>This page is empty: there are {{matched}} events.</p>
% elif not problem and not wrong:
<p>{{'No event matches.' if typed else 'There are no events yet.'}}</p>
% end
% if pages > 1 or query.page > 1:
<nav aria-label="Pages of events" class="pages">
%   if query.page > 1:
<a href="{{query.link(page=max(1, min(query.page - 1, pages)))}}" rel="prev">Previous</a>
%   end
<span>Page {{query.page}} of {{pages}}</span>
%   if query.page < pages:
<a href="{{query.link(page=query.page + 1)}}" rel="next">Next</a>
%   end
</nav>
% end
% if removed:
<p class="help">Removed by the ledger’s limit so far: {{removed}}.</p>
% end
