<p class="banner" role="status">{{_('The maker’s events.toml is not used: {problem} The built-in catalogue is in its place.', problem=problem)}}</p>
