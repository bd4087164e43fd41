<section class="card" aria-labelledby="presets">
<h2 id="presets">{{_('Fill in for a mail provider')}}</h2>
<p class="help">{{_('This fills in host, port, security and sign-in. Nothing is saved before Update.')}}</p>
<ul class="presets">
% for word, each in presets.items():
<li><a href="/smtp?preset={{word}}">{{_(each.title)}}</a></li>
% end
</ul>
</section>
