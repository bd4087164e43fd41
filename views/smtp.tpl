% rebase('layout.tpl', title='SMTP')
<h1>SMTP</h1>
% if notice:
<p class="notice" role="status">{{_(notice)}}</p>
% end
% if problem:
<p class="problem" role="alert" tabindex="-1" autofocus>{{_(problem)}}</p>
% end
% if damaged and quarantine_failed:
<p class="problem" role="alert">{{_('The stored settings are damaged and could not be read, and the file {file} could not be set aside. Please type them again.', file=damaged.name)}}</p>
% elif damaged:
<p class="problem" role="alert">{{_('The stored settings were damaged and could not be read. They were set aside as {file}; please type them again.', file=damaged.name)}}</p>
% end
% if broken:
<div class="problem" role="alert" tabindex="-1" autofocus aria-labelledby="summary">
<h2 id="summary">{{_(summary)}}</h2>
<ul>
% for field in fields:
% if field.name in broken:
<li><a href="#{{field.name}}">{{_(broken[field.name].sentence)}}</a></li>
% end
% end
</ul>
</div>
% end
<div class="columns">
<div>
% if presets:
%   include('presets.tpl')
% elif preset:
<div class="notice"><p role="status">{{_('Filled in: {provider}. Not saved yet.', provider=_(preset.title))}} <span class="hint">{{_(preset.hint)}}</span></p></div>
% end
<form id="tab" method="post" action="/smtp" class="card" novalidate autocomplete="off" autocapitalize="none" spellcheck="false" data-{{'unsaved' if unsaved else 'saved'}}>
<input type="hidden" name="token" value="{{token}}">
<input type="hidden" name="revision" value="{{revision}}">
% if not presets:
<p class="help"><a href="/smtp?preset">{{_('Fill in for a mail provider')}}</a></p>
% end
% def put(field):
%   error = broken.get(field.name)
%   # A text browser shows what is hidden, so the manual's rules are left out where another sign-in is chosen.
%   has_rules = field.rules and values['sign_in'] == 'manual'
%   described = field.name + '-help' + (' ' + field.name + '-rules' if has_rules else '') + (' ' + field.name + '-error' if error else '')
<div class="field{{' wrong' if error else ''}}"><label for="{{field.name}}">{{_(field.label)}}</label>
%   if field.secret:
%     unneeded = _('Not needed with this sign-in.') + (' ' + _('Update removes the stored password.') if removes_password else '')
%     stored = (_('A password is stored.'), _('Leave this empty to keep it.')) if has_password else ()
<p class="help" id="{{field.name}}-help" data-needed="{{password_sign_ins}}" data-other="{{unneeded if needs_password else ' '.join((_(field.help), *stored))}}">\\
%     if not needs_password:
{{unneeded}}\\
%     elif stored:
{{_(field.help)}} <strong>{{stored[0]}}</strong> {{stored[1]}}\\
%     else:
{{_(field.help)}}\\
%     end
</p>
%   else:
<p class="help" id="{{field.name}}-help">{{_(field.help)}}\\
%     if field.name in locked:
 {{_('Fixed by the maker of this device.')}}
%     end
</p>
%   end
%   if has_rules:
%     include('rules.tpl', field=field, stored=has_password and not error)
%   end
%   if error:
<p class="error" id="{{field.name}}-error">{{_(error.sentence)}}
%     for hint in error.hints:
<span class="hint">{{_(hint)}}</span>
%     end
</p>
%   end
%   if field.words:
%     decided = ' '.join(each.name for each in fields if each.name in field.decides)
<select id="{{field.name}}" name="{{field.name}}"{{!' data-decides="%s"' % decided if decided else ''}} aria-describedby="{{described}}"{{!' aria-invalid="true"' if error else ''}}{{!' disabled' if field.name in locked else ''}}>
%     for value, words in field.words.items():
<option value="{{value}}"{{!' selected' if value == (values[field.name] or field.choices[0]) else ''}}>{{_(words)}}</option>\\
%     end
</select>
%   elif field.lines:
<textarea id="{{field.name}}" name="{{field.name}}" rows="{{field.lines}}" maxlength="{{field.maxlength}}" aria-describedby="{{described}}"{{!' aria-invalid="true"' if error else ''}}>
{{values[field.name]}}</textarea>
%   else:
<input id="{{field.name}}" name="{{field.name}}"{{!'' if field.input_type == 'text' else ' type="%s"' % field.input_type}}{{!'' if field.inputmode == 'text' else ' inputmode="%s"' % field.inputmode}} maxlength="{{field.maxlength}}"{{!'' if field.autocomplete == 'off' else ' autocomplete="%s"' % field.autocomplete}} value="{{'' if field.secret else values[field.name]}}" aria-describedby="{{described}}"{{!' aria-invalid="true"' if error else ''}}{{!'' if field.advanced or (field.secret and has_password) else ' aria-required="true"'}}{{!' disabled' if field.secret and not needs_password else ''}}>
%     if field.secret:
%       include('reveal.tpl', id=field.name)
%     end
%   end
%   if field.name in beside:
<p class="beside">{{_('Stored now:')}} <strong>{{_(field.words.get(beside[field.name], '')) or beside[field.name] or _('(empty)')}}</strong></p>
%   end
</div>
% end
% for field in fields:
%   if not field.advanced:
%     put(field)
%   end
% end
<details{{!' open' if preset or opens_advanced or any(field.advanced and (field.name in broken or field.name in beside or test and field.name == test['field']) for field in fields) else ''}}>
<summary>{{_('Advanced')}}</summary>
% for field in fields:
%   if field.advanced:
%     put(field)
%   end
% end
</details>
<div class="actions">
<button>{{_('Update')}}</button>
<button formaction="/smtp/test" class="second">{{_('Send test email')}}</button>
<p aria-live="polite" data-say="{{_('Not saved yet.')}}"></p>
</div>
</form>
% if signs_in:
<p><a href="/smtp/sign-in">{{_('Sign-in by OAuth 2.0')}}</a></p>
% end
</div>
<aside>
<div id="test" aria-live="polite" data-running="{{_('The test is running. It takes a minute at most.')}}" data-lost="{{_('The connection to the device was lost, so the test has no result. Please try again.')}}" data-steps="{{steps}}" data-script="{{asset('test.js')}}">
% if test:
%   include('test.tpl', **test)
% end
</div>
% include('delivery.tpl', **delivery)
<p class="help">{{!note}}</p>
</aside>
</div>
