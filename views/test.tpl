<section class="card" aria-labelledby="test-result" data-copy="{{copy}}" data-copied="{{copied}}">
<h2 id="test-result" tabindex="-1" autofocus>{{sentence}}</h2>
<ol class="steps">
% for step in steps:
<li>✓ <b>{{step['label']}}</b> {{step['time']}} <span>{{step['told']}}</span></li>
% end
% if failed:
<li class="error">✗ {{failed}}</li>
% end
</ol>
% if reply:
<p>{{reply}}</p>
% end
% if advice:
<p>\\
%   if field:
<a href="#{{field}}">{{advice}}</a>\\
%   else:
{{advice}}\\
%   end
</p>
% end
% if listed:
<ul>
%   for each in listed:
<li>\\
%     for line in each.split('\n'):
{{line}}<br>\\
%     end
</li>
%   end
</ul>
% end
% for each in offers:
<button form="tab" formaction="{{each['formAction']}}" name="{{each['name']}}" value="{{each['value']}}" class="{{each['className']}}">{{each['label']}}</button>
% end
% if hint:
<p>{{hint}}</p>
% end
<p class="help">{{kept}}{{' ' + _('Type the password again before you press Update.') if retype else ''}}</p>
</section>
