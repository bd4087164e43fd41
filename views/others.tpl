<nav aria-label="{{_('Others')}}" class="sub">
% for name, path, label in (('codes', 'event-codes', 'Event Codes'), ('content', 'email-content', 'Email Content'), ('access', 'access', 'Access')):
<a href="/others/{{path}}"{{!' aria-current="page"' if name == part else ''}}>{{_(label)}}</a>
% end
</nav>
% if problem:
<p class="problem" role="alert" tabindex="-1" autofocus>{{_(problem)}}</p>
% end
% if catalog_problem:
%   include('catalog_problem.tpl', problem=catalog_problem)
% end
