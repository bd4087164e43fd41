<ul class="rules" id="{{field.name}}-rules" data-rows="{{' '.join(sequences)}}" data-length="{{sequence_length}}">
% for rule in field.rules:
<li data-pattern="{{rule.pattern}}"{{!' data-forbidden' if rule.forbidden else ''}}>{{rule.label}}</li>
% end
</ul>
<p class="unseen" aria-live="polite" data-told="Rules met: {met} of {all}."></p>
