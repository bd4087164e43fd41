<p class="brand">
% if brand.logo:
<picture>
%   if brand.logo_dark:
<source media="(prefers-color-scheme:dark)" srcset="{{asset(brand.logo_dark.name)}}">
%   end
<img class="logo" src="{{asset(brand.logo.name)}}" alt="{{brand.logo_text}}">
</picture>
% end
% if brand.name:
<span>{{brand.name}}</span>
% end
<span class="device">{{device.name}}</span>
</p>
