% rebase('layout.tpl', title=_(title))
<h1>{{_(title)}}</h1>
<p>{{_(sentence)}}</p>
<p><a href="/smtp">{{_('To the SMTP tab')}}</a></p>
