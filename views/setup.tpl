% rebase('layout.tpl', title=_('Set up'))
<h1>{{_('Set up this device')}}</h1>
% if problem:
<p class="problem" role="alert" id="problem" tabindex="-1" autofocus>{{_(problem)}}</p>
% end
<form method="post" action="/setup" class="card">
<input type="hidden" name="token" value="{{token}}">
<div class="field">
<label for="code">{{_('Setup code')}}</label>
<p class="help" id="code-help">{{!_('Printed on the device’s console when it started, and shown by <code>device-ui setup-code</code>.')}}</p>
<input id="code" name="code" value="{{code}}" autocomplete="off" autocapitalize="characters" spellcheck="false" required aria-describedby="code-help">
</div>
<div class="field">
<label for="password">{{_('New administrator’s password')}}</label>
<p class="help" id="password-help">{{_('15 to 128 characters. A sentence is easier to remember than a riddle, and harder to guess.')}}</p>
<input id="password" name="password" type="password" autocomplete="new-password" required aria-describedby="password-help">
% include('reveal.tpl', id='password')
</div>
<div class="field">
<label for="again">{{_('The same password again')}}</label>
<input id="again" name="again" type="password" autocomplete="new-password" required>
% include('reveal.tpl', id='again')
</div>
<button>{{_('Set password')}}</button>
</form>
