<ul class="rules" id="{{field.name}}-rules" data-rows="{{' '.join(sequences)}}" data-length="{{sequence_length}}"{{!' data-stored' if stored else ''}}>
% for rule in field.rules:
<li data-pattern="{{rule.pattern}}"{{!' data-forbidden' if rule.forbidden else ''}}>{{_(rule.label)}}</li>
% end
</ul>
<p class="unseen" aria-live="polite" data-told="{{_('Rules met: {met} of {all}.')}}"></p>
