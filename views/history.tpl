% rebase('layout.tpl', title=_('History'))
<h1>{{_('History')}}</h1>
% if notice:
<p class="notice" role="status">{{_(notice)}}</p>
% end
% if problem:
<p class="problem" role="alert" tabindex="-1" autofocus>{{_(problem)}}</p>
% end
% if catalog_problem:
%   include('catalog_problem.tpl', problem=catalog_problem)
% end
% if set_aside:
<p class="problem" role="alert">{{_('An earlier history was damaged or lost. What is left of it was set aside as {file}; mail that waited in it was not sent.', file=set_aside)}}</p>
% end
% if bars:
%   begin, end = bars[0]['from'], bars[-1]['to']
<section class="card picture" aria-labelledby="picture">
<div class="legend">
<h2 id="picture">{{_('Last 30 days') if is_usual else begin if begin == end else _('{first} to {last}', first=begin, last=end)}}</h2>
<p><span class="f" aria-hidden="true">■</span> {{_('faults {count}', count=totals['fault'])}}</p>
<p><span class="i" aria-hidden="true">■</span> {{_('infos {count}', count=totals['info'])}}</p>
<p class="u"><span aria-hidden="true">▲</span> \\
%   told = _('not delivered {count}', count=totals['lost'])
%   if totals['lost']:
<a href="{{query.link(outcome='not delivered')}}">{{told}}</a>\\
%   else:
{{told}}\\
%   end
</p>
</div>
{{!svg}}
<div class="axis" aria-hidden="true">
%   for bar in (bars[0], bars[len(bars) // 2], bars[-1]):
<span>{{bar['hour'] or bar['from']}}</span>
%   end
</div>
<details>
<summary>{{_('As a table')}}</summary>
<table>
<thead><tr><th scope="col">{{_('Hour') if bars[0]['hour'] else _('Day')}}</th><th scope="col">{{_('Faults')}}</th><th scope="col">{{_('Infos')}}</th><th scope="col">{{_('Not delivered')}}</th></tr></thead>
<tbody>
%   for bar in bars:
%     if bar['fault'] or bar['info']:
<tr><th scope="row">\\
%       label = bar['hour'] or (bar['from'] if bar['from'] == bar['to'] else _('{first} to {last}', first=bar['from'], last=bar['to']))
%       if bar['hour']:
{{label}}\\
%       else:
<a href="{{of_bar(bar)}}">{{label}}</a>\\
%       end
</th><td>{{bar['fault']}}</td><td>{{bar['info']}}</td><td>{{bar['lost']}}</td></tr>
%     end
%   end
</tbody>
</table>
</details>
</section>
% end
<form action="/history" class="card filters">
% if wrong:
<p class="error" role="alert" id="wrong" tabindex="-1" autofocus>{{_(wrong)}}</p>
% end
% def box(name, label, kind):
<div>
<label for="{{name}}">{{_(label)}}</label>
<input id="{{name}}" name="{{name}}" type="{{'text' if wrong else kind}}" value="{{typed.get(name, '')}}"{{!' aria-describedby="wrong"' if wrong else ''}}>
</div>
% end
% def choice(name, label, options):
<div>
<label for="{{name}}">{{_(label)}}</label>
<select id="{{name}}" name="{{name}}"{{!' aria-describedby="wrong"' if wrong else ''}}>
% for value, words in options.items():
<option value="{{value}}"{{!' selected' if value == typed.get(name, '') else ''}}>{{_(words)}}</option>
% end
</select>
</div>
% end
% box('from', 'From', 'date')
% box('to', 'To', 'date')
% choice('type', 'Type', types)
% box('code', 'Code', 'text')
% choice('outcome', 'Delivery', outcomes)
% box('source', 'Source', 'search')
% box('text', 'Text', 'search')
<input type="hidden" name="sort" value="{{query.sort}}">
<input type="hidden" name="order" value="{{'down' if query.descending else 'up'}}">
<button>{{_('Filter')}}</button>
<a href="/history">{{_('Show all')}}</a>
</form>
% if entries:
<p class="count">{{_('Events {first} to {last} of {matched}.', first=first, last=first + len(entries) - 1, matched=matched) if matched == kept else _('Events {first} to {last} of {matched} that match; {kept} are kept.', first=first, last=first + len(entries) - 1, matched=matched, kept=kept)}} {{_('Times in {zone}.', zone=zone) if zone else ''}} <a href="{{query.link('/history.csv')}}">{{_('All of them as CSV')}}</a></p>
<form method="post" action="/history" class="events">
<input type="hidden" name="token" value="{{token}}">
<input type="hidden" name="query" value="{{query.own}}">
<div class="scroll" role="region" aria-label="{{_('Events')}}" tabindex="0">
<table class="rows events" data-yours="{{_('{time}, your time')}}">
<thead>
<tr>
%   def by(name):
%     mine = name == query.sort
<a href="{{query.sorted_by(name)}}">{{_(columns[name])}}{{(' ▼' if query.descending else ' ▲') if mine else ''}}</a>\\
%   end
%   def head(*names):
<th scope="col"{{!' aria-sort="%s"' % ('descending' if query.descending else 'ascending') if query.sort in names else ''}}>\\
%   end
% head('number')
% by('number')
</th>
% head('time')
% by('time')
</th>
% head('type', 'code')
% by('type')
% by('code')
</th>
% head('name', 'source')
<span>{{_('What happened')}}</span>
% by('name')
% by('source')
</th>
% head('state')
% by('state')
</th>
</tr>
</thead>
<tbody>
%   for entry in entries:
<tr id="event-{{entry['number']}}">
<td class="number">{{entry['number']}}</td>
<td class="when">{{!entry['when']}}</td>
<td class="kind"><b class="{{entry['type']}}">{{_(entry['type'])}}</b> <a href="/others/event-codes?code={{entry['code']}}#code-{{entry['code']}}">{{entry['code']}}</a></td>
<td class="long">
%     if entry['is_cut']:
<details class="what"><summary class="text">{{entry['title']}}</summary><p class="text">{{entry['whole']}}</p></details>
%     else:
<p class="what text">{{entry['title']}}</p>
%     end
%     if entry['whole'] and not entry['is_cut']:
<details><summary>{{_('Text')}}</summary><p class="text">{{entry['whole']}}</p></details>
%     end
%     if entry['sub']:
<p class="sub-line">{{entry['sub']}}</p>
%     end
</td>
<td class="long delivery">
<span class="outcome {{entry['state'].replace(' ', '-')}}"><span aria-hidden="true">{{entry['mark']}}</span> {{_(entry['state'])}}</span>{{_(', in mail {number}', number=entry['mail']) if entry['mail'] else ''}}
%     if entry['can']:
<button class="small" name="{{entry['can']}}" value="{{entry['number']}}" aria-label="{{_(actions[entry['can']])}}: {{entry['number']}}">{{_(actions[entry['can']])}}</button>
%     end
%     if entry['reason']:
<span class="sub-line">{{entry['reason']}}</span>
%     end
%     if entry['is_folded']:
<details><summary>{{_('1 recipient') if len(entry['results']) == 1 else _('{count} recipients', count=len(entry['results']))}}</summary>
%     end
%     if entry['results']:
<ul>
%       for each in entry['results']:
<li>{{!each}}</li>
%       end
</ul>
%     end
%     if entry['is_folded']:
</details>
%     end
%     for each in entry['again']:
<p class="sub-line">↻ {{!each['line']}}</p>
%       if each['results']:
<ul>
%         for result in each['results']:
<li>{{!result}}</li>
%         end
</ul>
%       end
%     end
</td>
</tr>
%   end
</tbody>
</table>
</div>
</form>
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
