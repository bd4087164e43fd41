% rebase('layout.tpl', title=_('Sign-in by OAuth 2.0'), tables=True, refreshes=refreshes)
<h1>{{_('Sign-in by OAuth 2.0')}}</h1>
<p><a href="/smtp">{{_('Back to the SMTP tab')}}</a></p>
% if problem:
<p class="problem" role="alert" tabindex="-1" autofocus>{{_(problem)}}</p>
% end
% if state:
<section class="card" aria-labelledby="state">
<h2 id="state">{{_('State')}}</h2>
<p>{{_(grant_words)}}</p>
%   if failed:
<p class="error">{{_(failed)}}</p>
%   end
%   if state['person']:
<p>{{_('Signed in as {person}.', person=state['person'])}}
%     if state['person'].lower() != account.lower():
 <strong>{{_('The SMTP account address is another one, {account}: most providers then refuse mail.', account=account)}}</strong>
%     end
</p>
%   end
%   if state['renewed']:
<p>{{_('Last token: {day}.', day=day(state['renewed']))}}</p>
%   elif not failed:
<p>{{_('No token was issued yet. “Send test email” on the SMTP tab asks for one.')}}</p>
%   end
%   if state['needs_mail']:
<p><strong>{{_(state['needs_mail'])}}</strong></p>
%   elif state['ends']:
%     if grant == 'device' and not state['is_fixed']:
<p>{{_('Ends on {day} if the device cannot renew it.', day=state['ends'])}}
%     else:
<p>{{_('Ends on {day}.', day=state['ends'])}}
%     end
%     if state['warning_days']:
 {{_('Events warn this many days before: {days}.', days=', '.join(map(str, state['warning_days'])))}}
%     end
</p>
%   end
</section>
%   if grant == 'secret':
<p class="help">{{_('Make the next client secret in time, and type it as SMTP Account Password with the date on which it ends.')}}</p>
%   end
%   for number, each in enumerate(certificates):
<section class="card" aria-labelledby="certificate{{number}}">
<h2 id="certificate{{number}}">{{_('The next certificate') if number else _('The certificate of this device')}}</h2>
<p>{{_('Its key never leaves this device. Upload the file to the application at the provider, and compare the SHA-256.')}}</p>
<p><a href="/smtp/sign-in/certificate?sha256={{each['sha256']}}" download>{{_('Download the certificate')}}</a></p>
<p>SHA-256 <code>{{each['sha256'].upper()}}</code></p>
<p>{{_('Valid until {day}.', day=each['ends'])}}</p>
</section>
%   end
%   if certificates and powershell:
<section class="card" aria-labelledby="powershell">
<h2 id="powershell">{{_('For the administrator of Microsoft 365')}}</h2>
<p>{{_('After the upload, in PowerShell with the module ExchangeOnlineManagement. It gives this device the right to send as this one mailbox, which takes up to two hours to take effect.')}}</p>
<pre><code>{{powershell}}</code></pre>
</section>
%   end
%   if grant == 'device':
<section class="card" aria-labelledby="code" data-phase="{{flow['phase']}}"{{!' data-refreshes="%d"' % refreshes if refreshes else ''}}>
<h2 id="code"{{!' tabindex="-1" autofocus' if flow['phase'] == 'waiting' else ''}}>{{_('Sign in with a code')}}</h2>
%     if flow['phase'] == 'asking':
<p>{{_('The device asks the provider for a code.')}}</p>
%     elif flow['phase'] == 'waiting':
<ol>
<li>{{_('On any device, open this address:')}} <code>{{flow['address']}}</code></li>
<li>{{_('Type this code:')}} <strong><code>{{flow['code']}}</code></strong></li>
<li>{{_('Sign in as {account}.', account=account)}}</li>
</ol>
<p id="left">{{_('Minutes until the code expires: {minutes}. This page looks again by itself.', minutes=flow['seconds'] // 60 + 1)}}</p>
%     else:
%       if ended:
<p class="{{'notice' if flow['phase'] == 'done' else 'problem'}}" role="status" tabindex="-1" autofocus>{{_(ended)}}</p>
%         if flow.get('advice'):
<p><strong>{{_(flow['advice'])}}</strong></p>
%         end
%       end
<p>{{_('The device shows a code and an address. A person opens the address, types the code, and signs in.')}}</p>
%     end
<form method="post" action="/smtp/sign-in" data-saved>
<input type="hidden" name="token" value="{{token}}">
%     if flow['phase'] in ('asking', 'waiting'):
<button name="do" value="cancel" class="second">{{_('Cancel')}}</button>
%     else:
<button name="do" value="begin">{{_('Get a code')}}</button>
%     end
</form>
</section>
%   end
% end
