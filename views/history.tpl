% rebase('layout.tpl', title=_('History'))
<h1>{{_('History')}}</h1>
% if problem:
<p class="problem" role="alert" tabindex="-1" autofocus>{{_(problem)}}</p>
% end
% if catalog_problem:
%   include('catalog_problem.tpl', problem=catalog_problem)
% end
% if set_aside:
<p class="problem" role="alert">{{_('An earlier history was damaged or lost. What is left of it was set aside as {file}; mail that waited in it was not sent.', file=set_aside)}}</p>
% end
<form action="/history" class="card filters">
% if wrong:
<p class="error" role="alert" id="wrong" tabindex="-1" autofocus>{{_(wrong)}}</p>
% end
% def box(name, label, kind):
<div>
<label for="{{name}}">{{_(label)}}</label>
<input id="{{name}}" name="{{name}}" type="{{kind}}" value="{{typed.get(name, '')}}"{{!' aria-describedby="wrong"' if wrong else ''}}>
</div>
% end
% box('from', 'From', 'date')
% box('to', 'To', 'date')
<div>
<label for="type">{{_('Type')}}</label>
<select id="type" name="type"{{!' aria-describedby="wrong"' if wrong else ''}}>
% for value, words in types.items():
<option value="{{value}}"{{!' selected' if value == typed.get('type', '') else ''}}>{{_(words)}}</option>
% end
</select>
</div>
% box('code', 'Code', 'text')
<input type="hidden" name="sort" value="{{query.sort}}">
<input type="hidden" name="order" value="{{'down' if query.descending else 'up'}}">
<button>{{_('Filter')}}</button>
<a href="/history">{{_('Show all')}}</a>
</form>
% if events:
<p>{{_('Events {first} to {last} of {matched}.', first=first, last=first + len(events) - 1, matched=matched) if matched == kept else _('Events {first} to {last} of {matched} that match; {kept} are kept.', first=first, last=first + len(events) - 1, matched=matched, kept=kept)}} <a href="{{query.link('/history.csv')}}">{{_('All of them as CSV')}}</a></p>
<div class="scroll" role="region" aria-label="{{_('Events')}}" tabindex="0">
<table class="rows" data-yours="{{_('{time}, your time')}}">
<thead>
<tr>
%   for name, label in columns.items():
%     mine = name == query.sort
<th scope="col"{{!' aria-sort="%s"' % ('descending' if query.descending else 'ascending') if mine else ''}}><a href="{{query.sorted_by(name)}}">{{_(label)}}{{(' ▼' if query.descending else ' ▲') if mine else ''}}</a></th>
%   end
</tr>
</thead>
<tbody>
%   def cell(name, more=''):
<td{{!more}} data-label="{{_(columns[name])}}">\\
%   end
%   for event in events:
<tr id="event-{{event['number']}}">
% cell('number')
{{event['number']}}</td>
% cell('time', ' class="mid"')
{{!moment(event)}}</td>
% cell('type')
{{_(event['type'])}}</td>
% cell('code')
{{event['code']}}</td>
% cell('name', ' class="long"')
{{named(event)}}
%     if event['text']:
<details><summary>{{_('Text')}}</summary><p class="text">{{own(event['text'])}}</p></details>
%     end
</td>
% cell('source', ' class="mid"')
{{own(event['source'])}}</td>
% cell('state', ' class="long"')
{{_(event['state'])}}{{_(', in mail {number}', number=event['mail']) if event['mail'] not in (0, event['number']) else ''}}
%     if deliveries(event):
<ul>
%       for each in deliveries(event):
<li>{{!result(each)}}</li>
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
<p>{{_('This page is empty: there are {count} events.', count=matched)}}</p>
% elif not problem and not wrong:
<p>{{_('No event matches.') if typed else _('There are no events yet.')}}</p>
% end
% if pages > 1 or query.page > 1:
<nav aria-label="{{_('Pages of events')}}" class="pages">
%   if query.page > 1:
<a href="{{query.link(page=max(1, min(query.page - 1, pages)))}}" rel="prev">{{_('Previous')}}</a>
%   end
<span>{{_('Page {page} of {pages}', page=query.page, pages=pages)}}</span>
%   if query.page < pages:
<a href="{{query.link(page=query.page + 1)}}" rel="next">{{_('Next')}}</a>
%   end
</nav>
% end
% if removed:
<p class="help">{{_('Removed by the ledger’s limit so far: {counts}.', counts=removed)}}</p>
% end
