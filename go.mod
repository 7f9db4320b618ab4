module mediawiki.example/oauth2

go 1.25
