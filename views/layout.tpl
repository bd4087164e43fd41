<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{{title}} · {{device.name}}</title>
<link rel="icon" href="/static/icon.svg" type="image/svg+xml">
<link rel="stylesheet" href="/static/style.css">
<script src="/static/app.js" defer></script>
</head>
<body{{!' class="wide"' if get('wide') else ''}}>
<header>
<p class="brand">{{device.name}}</p>
% if session:
<form method="post" action="/logout"><button class="quiet">Sign out</button></form>
% end
</header>
% if session:
<nav aria-label="Pages">
%   for name, label in (('smtp', 'SMTP'), ('recipients', 'Recipients'), ('history', 'History'), ('others', 'Others')):
<a href="/{{name}}"{{!' aria-current="page"' if name == page else ''}}>{{label}}</a>
%   end
</nav>
% end
<main>
% if mail_problem:
<p class="banner" role="status">{{mail_problem}}</p>
% end
{{!base}}
</main>
</body>
</html>
