"""The client of the HTTP API.

`calls` says what can be asked, `decode` reads the answers, `wire` sends one request to one endpoint; `client`
and `async_client` drive the same plan (`usecases.endpoints`), one waiting, one awaiting.
"""
