<form method="post" action="/others/event-codes" class="card" id="notify" novalidate autocomplete="off" data-{{'unsaved' if unsaved else 'saved'}}>
<h2>{{_('What is mailed, and when')}}</h2>
<p class="help">{{_('The table has a choice for each code. Every event is kept in the history, mailed or not.')}}</p>
<input type="hidden" name="token" value="{{token}}">
<input type="hidden" name="revision" value="{{revision}}">
<div class="field">
<label for="infos">{{_('Infos')}}</label>
<select id="infos" name="infos">
% for value, label in infos.items():
<option value="{{value}}"{{!' selected' if value == form['infos'] else ''}}>{{_(label)}}</option>
% end
</select>
</div>
% wrong = broken.get('summary_time')
<div class="field{{' wrong' if wrong else ''}}">
<label for="summary_time">{{_('Time of the daily summary and the sign of life')}}</label>
<p class="help" id="summary_time-help">{{_('A time of day such as 08:00. Each device has a minute of its own within the hour after it.')}}</p>
% if wrong:
<p class="error" id="summary_time-error">{{_(wrong.sentence)}}</p>
% end
<input id="summary_time" name="summary_time" type="text" maxlength="20" value="{{form['summary_time']}}" aria-describedby="summary_time-help{{' summary_time-error' if wrong else ''}}"{{!' aria-invalid="true" autofocus' if wrong else ''}}>
</div>
<div class="field">
<label for="sign_of_life">{{_('Sign of life')}}</label>
<p class="help" id="sign_of_life-help">{{_('A mail that says what was sent, what waits and what was lost. It goes to those who receive everything.')}}</p>
<select id="sign_of_life" name="sign_of_life" aria-describedby="sign_of_life-help">
% for value, label in signs.items():
<option value="{{value}}"{{!' selected' if value == form['sign_of_life'] else ''}}>{{_(label)}}</option>
% end
</select>
</div>
<button>{{_('Save')}}</button>
</form>
