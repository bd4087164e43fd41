% rebase('layout.tpl', title=title)
<h1>{{title}}</h1>
<p>{{sentence}}</p>
<p><a href="/smtp">To the SMTP tab</a></p>
