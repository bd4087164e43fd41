% rebase('layout.tpl', title='Set up')
<h1>Set up this device</h1>
% if problem:
<p class="problem" role="alert" id="problem" tabindex="-1" autofocus>{{problem}}</p>
% end
<form method="post" action="/setup" class="card">
<div class="field">
<label for="code">Setup code</label>
<p class="help" id="code-help">Printed on the device’s console when it started, and shown by <code>device-ui setup-code</code>.</p>
<input id="code" name="code" value="{{code}}" autocomplete="off" autocapitalize="characters" spellcheck="false" required aria-describedby="code-help">
</div>
<div class="field">
<label for="password">New administrator’s password</label>
<p class="help" id="password-help">15 to 128 characters. A sentence is easier to remember than a riddle, and harder to guess.</p>
<input id="password" name="password" type="password" autocomplete="new-password" required aria-describedby="password-help">
% include('reveal.tpl', id='password')
</div>
<div class="field">
<label for="again">The same password again</label>
<input id="again" name="again" type="password" autocomplete="new-password" required>
% include('reveal.tpl', id='again')
</div>
<button>Set password</button>
</form>
