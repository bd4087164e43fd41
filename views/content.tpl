% rebase('layout.tpl', title=_('Email Content'))
<h1>{{_('Email Content')}}</h1>
% include('others.tpl', part=part, problem=problem, catalog_problem=catalog_problem)
<form action="/others/email-content" class="card filters">
<div>
<label for="code">{{_('Event code')}}</label>
<select id="code" name="code">
% if mail and code not in [kind['code'] for kind in kinds]:
<option selected>{{code}}</option>
% end
% for kind in kinds:
<option value="{{kind['code']}}"{{!' selected' if kind['code'] == code else ''}}>{{kind['code']}} {{_(kind['name'])}}</option>
% end
</select>
</div>
<div>
<label for="form">{{_('Mail')}}</label>
<select id="form" name="form">
% for name, label in forms.items():
<option value="{{name}}"{{!' selected' if name == form else ''}}>{{_(label)}}</option>
% end
</select>
</div>
<button>{{_('Show')}}</button>
</form>
% if mail:
<dl>
%   for name in ('subject', 'from', 'to', 'date'):
<dt>{{_(name).capitalize()}}</dt><dd>{{mail[name]}}</dd>
%   end
</dl>
<details>
<summary>{{_('All headers')}}</summary>
<pre class="card">{{mail['headers']}}</pre>
</details>
<div class="parts">
<section aria-labelledby="text-part">
<h2 id="text-part">{{_('Text')}}</h2>
<pre class="card">{{mail['text']}}</pre>
</section>
%   for scheme, label in schemes.items():
<section aria-labelledby="html-{{scheme}}">
<h2 id="html-{{scheme}}">{{_(label)}}</h2>
<iframe class="card" title="{{_(label)}}" sandbox="" src="/others/email-content/html?code={{code}}&amp;form={{form}}&amp;scheme={{scheme}}"></iframe>
</section>
%   end
</div>
% end
