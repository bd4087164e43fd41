<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{{title}} · {{device.name}}</title>
<link rel="icon" href="{{asset('icon.svg')}}" type="image/svg+xml">
<link rel="stylesheet" href="{{asset('style.css')}}">
<script src="{{asset('app.js')}}" defer blocking="render"></script>
</head>
<body>
<header>
<div class="bar">
<p class="brand">{{device.name}}</p>
% if path:
<p class="state{{' well' if path.is_well else ''}}"><span aria-hidden="true">{{'✓' if path.is_well else '!'}}</span> {{path.state}}</p>
<form method="post" action="/logout"><button class="quiet">Sign out</button></form>
% end
</div>
% if session:
<nav aria-label="Pages">
%   for name, label in (('smtp', 'SMTP'), ('recipients', 'Recipients'), ('history', 'History'), ('others', 'Others')):
<a href="/{{name}}"{{!' aria-current="page"' if name == page else ''}}>{{label}}</a>
%   end
</nav>
% end
</header>
<main{{!' class="wide"' if get('wide') else ''}}>
% if path and path.problem:
<p class="banner" role="status">{{path.problem}}</p>
% end
{{!base}}
</main>
% if session:
<div class="toast" role="alert" data-idle="{{idle}}" hidden>
<p>Nothing was done here for a while. In a minute you will be signed out; what you typed stays.</p>
<button type="button">Stay signed in</button>
</div>
% end
</body>
</html>
