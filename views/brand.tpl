<p class="brand">
% if brand.logo:
<picture>
%   if brand.logo_dark:
<source media="(prefers-color-scheme:dark)" srcset="{{asset(brand.logo_dark.asset.name)}}" width="{{brand.logo_dark.width}}" height="{{brand.logo_dark.height}}">
%   end
<img class="logo" src="{{asset(brand.logo.asset.name)}}" alt="{{brand.logo_text}}" width="{{brand.logo.width}}" height="{{brand.logo.height}}">
</picture>
% end
% if brand.name:
<span>{{brand.name}}</span>
% end
<span class="device">{{device.name}}</span>
</p>
