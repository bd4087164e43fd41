<!DOCTYPE html>
<html lang="{{_.code}}">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>{{title}} · {{device.name}}{{' · ' + brand.title if brand and brand.title else ''}}</title>
<link rel="icon" href="{{asset('icon.svg')}}" type="image/svg+xml">
<link rel="stylesheet" href="{{asset('style.css')}}">
<script src="{{asset('app.js')}}" defer blocking="render"></script>
% if page != 'smtp' or get('tables'):
<link rel="stylesheet" href="{{asset('tables.css')}}">
<script src="{{asset('tables.js')}}" defer blocking="render"></script>
% end
% if get('refreshes'):
<noscript><meta http-equiv="refresh" content="{{refreshes}}; url=?refresh"></noscript>
% end
</head>
<body>
<header>
<div class="bar">
% if brand and brand.title:
%   include('brand.tpl')
% else:
<p class="brand">{{device.name}}</p>
% end
% if path:
<p class="state{{' well' if path.is_well else ''}}"><span aria-hidden="true">{{'✓' if path.is_well else '!'}}</span> {{_(path.state)}}</p>
<form method="post" action="/logout"><input type="hidden" name="token" value="{{token}}"><button class="quiet">{{_('Sign out')}}</button></form>
% end
</div>
% if session:
<nav aria-label="{{_('Pages')}}">
%   for name, label in (('smtp', 'SMTP'), ('recipients', 'Recipients'), ('history', 'History'), ('others', 'Others')):
<a href="/{{name}}"{{!' aria-current="page"' if name == page else ''}}>{{_(label)}}</a>
%   end
</nav>
% end
</header>
<main{{!' class="wide"' if get('wide') else ''}}>
% if path and path.problem:
<p class="banner" role="status">{{path.problem}}
%   link, label = path.link
%   if link and link != '/' + page:
 <a href="{{link}}">{{_(label)}}</a>
%   end
</p>
% end
{{!base}}
</main>
% if get('offers_languages', True):
<footer class="bar">
<form method="post" action="/language?page={{here}}" aria-labelledby="languages">
<input type="hidden" name="token" value="{{token}}">
<span id="languages">{{_('Language')}}:</span>
% for code, name in languages.items():
%   if code == _.code:
<b>{{name}}</b>
%   else:
<button name="language" value="{{code}}" lang="{{code}}" class="quiet">{{name}}</button>
%   end
% end
</form>
</footer>
% end
% if session:
<div class="toast" role="alert" data-idle="{{idle}}" data-left="{{idle_left}}" data-say="{{_('You will be signed out in 1 minute. Your input is kept.')}}" data-stay="{{_('Stay signed in')}}" hidden></div>
% end
</body>
</html>
