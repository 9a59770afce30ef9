"""HTTP for portals: sessions, responses, cached tokens, call quotas, HTML forms and PKCE."""
