% rebase('layout.tpl', title=_('Sign in'))
<h1>{{_('Sign in')}}</h1>
% if problem:
<p class="problem" role="alert" id="problem" tabindex="-1" autofocus>{{_(problem)}}</p>
% end
<form method="post" action="/login" class="card">
<input type="hidden" name="token" value="{{token}}">
% for name, value in hidden.items():
<input type="hidden" name="{{name}}" value="{{value}}">
% end
<div class="field">
<label for="password">{{_('Administrator’s password')}}</label>
<input id="password" name="password" type="password" autocomplete="current-password" required{{!'' if problem else ' autofocus'}}>
% include('reveal.tpl', id='password')
</div>
<button>{{_('Sign in')}}</button>
</form>
