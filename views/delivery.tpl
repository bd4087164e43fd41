<section class="card" aria-labelledby="delivery">
<h2 id="delivery">{{_('Delivery')}}</h2>
<dl>
<dt>{{_('Goes to')}}</dt><dd>{{goes or _('nobody yet')}} · <a href="/recipients">{{_('Edit')}}</a></dd>
% if last:
<dt>{{_('Last delivered')}}</dt><dd>{{last}}</dd>
% end
% if waiting:
<dt>{{_('Waiting')}}</dt><dd><b>{{waiting}}</b></dd>
<dt>{{_('Next try')}}</dt><dd>{{next}}
%   if waits:
<form method="post" action="/smtp/try"><input type="hidden" name="token" value="{{token}}"><button class="second">{{_('Try now')}}</button></form>
%   end
</dd>
% end
</dl>
% if waiting or last:
<p class="help">{{_('Times of the device, {zone}.', zone=zone)}}</p>
% end
</section>
