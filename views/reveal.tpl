<button type="button" class="reveal" aria-controls="{{id}}" aria-label="Show password" data-show="Show" data-hide="Hide" data-hide-label="Hide password" hidden>Show</button>
