"""
The configuration that C{proxyctl init} writes: every key, commented, and good as it stands.
"""

from __future__ import annotations

SAMPLE = """\
# proxyd's configuration. `proxyctl check -c FILE` says what is wrong with it;
# docs/configuration.md tells all keys at length.
#
# Durations: 500ms 30s 14m 1h 730d. A secret is its text, env:NAME or file:PATH.
# A listener is HOST:PORT, [::1]:PORT, unix:PATH, systemd:NAME or a Twisted
# endpoint, or a list of them. Values that stand after a # are the defaults,
# unless they are called examples.

# Where proxyd keeps what it must remember. Absent: state.sqlite in
# $STATE_DIRECTORY, else in ./.proxyd.
# state: sqlite:///var/lib/proxyd/state.sqlite      # an example
# state_key: file:/etc/proxyd/state.key             # an example; absent: made there

# log:
#   level: info            # debug | info | warn | error | critical
#   format: text           # text | json
#   statements: off        # on: the start of each statement, passwords masked

# At a stop, how long transactions may go on.
# drain_timeout: 30s

postgres:
  listen: ["127.0.0.1:6432"]
  # proxy_protocol: ["10.0.0.0/8"]     # an example: balancers whose PROXY header is believed
  # public: "db.example:6432"          # an example: what connection strings name
  # node: "10.0.0.5:6432"              # an example: where other nodes of a shared store reach it
  # tls:                               # without a certificate proxyd makes itself one
  #   mode: prefer                     # disable | prefer | require | verify-full
  #   certificate: /etc/proxyd/tls.pem # an example
  #   key: /etc/proxyd/tls.key         # an example
  #   client_ca: /etc/proxyd/ca.pem    # an example: for verify-full and auth: cert
  #   client_crl: /etc/proxyd/ca.crl   # an example: its revocation lists
  # auth_timeout: 30s
  # max_clients: 10000

# The databases behind proxyd, by the name that clients ask for. `default` is
# any other name.
connections:
  default:
    # The service user, as which pooled connections log in. Without a database
    # in it, clients get the one that they name.
    dsn: postgresql://proxyd@db.internal:5432/?sslmode=verify-full
    password: env:GPRXY_PASS
    # auth: backend                    # clients' passwords are tried on the server
                                       # trust: none is asked for, on loopback only
                                       # cert: by the client's certificate
                                       # token: a token that proxyd issued, or an issuer of below;
                                       # [backend, token]: by the password's shape
                                       # oauth: such a token by SASL OAUTHBEARER (PostgreSQL 18)
                                       # scram: not in this version yet
    # cert_map: [{cn: "app-*", user: app}]   # an example: which certificates are which users;
                                       # absent: the common name is the user's
    # allow: ["10.0.0.0/8"]            # an example: client addresses; absent: any
    # databases: ["shop*"]             # an example: names that `default` serves; absent: any
    # users: ["*"]                     # absent: any that logs in
    # pool_mode: session               # transaction | statement: not in this version yet
    # reset: discard_all               # or close: a new server connection for every session
    # max_open_connections: 10
    # min_idle_connections: 2          # kept warm
    # max_idle_connections: 10         # absent: max_open_connections
    # connection_max_lifetime: 1h
    # connection_max_idle_time: 30m
    # health_check_period: 1m
    # connect_timeout: 10s
    # acquire_timeout: 30s             # how long a client waits for a free connection
    # identity: service                # or set_role | user: not in this version yet
    # via: jump                        # an example: an upstream; absent: the routes decide

  # orders:                            # an example: one database by its own name
  #   dsn: postgresql://orders@db2.internal/orders?sslmode=verify-full
  #   password: file:/etc/proxyd/orders.password
  #   aws_secret: {arn: ARN}           # instead: the password is in AWS Secrets Manager; profile: P
  #   aws_iam_auth: {enabled: true, region: us-east-1, db_user: U, profile: P}
  #                                    # instead: an RDS IAM token for each login; lifetimes are
  #                                    # 14m and 10m with it; connection_timeout: 10s

# tokens:
#   secret: file:/etc/proxyd/jwt.key    # an example; or JWT_SECRET; absent: made and kept
#   previous_secrets: []                # for rotation: what older tokens were signed with
#   ttl: 730d                           # of a new token
#   max_staleness: 5s                   # how long a shared store may be silent, and then:
#   when_store_lost: refuse_new         # or end_sessions | keep
#   issuers:                            # an example: others whose tokens let in
#     - issuer: https://id.example
#       audience: proxyd
#       jwks_url: https://id.example/.well-known/jwks.json
#       algorithms: [RS256, ES256, EdDSA]
#       database_claim: database_id
#       role_claim: sub
#       ca: /etc/proxyd/id-ca.pem       # absent: the system's certificates

# The HTTP API, which proxyctl speaks to by its UNIX socket. Without this section
# there is none of both. docs/howto-api.md tells what it can do.
api:
  # listen: ["127.0.0.1:8080"]         # an example; absent: the UNIX socket only
  # tls:                               # needed where others than this machine reach it,
  #   certificate: /etc/proxyd/api.pem # an example      or in so many words mode: disable
  #   key: /etc/proxyd/api.key         # an example
  # socket: /run/proxyd/api.sock       # an example; absent: api.sock in $RUNTIME_DIRECTORY, else
                                       # beside the state
  # admin_token: env:PROXYD_ADMIN_TOKEN    # an example; absent: made and kept
  # metrics_token: file:/etc/proxyd/metrics.token   # an example: opens /metrics only
  # hosts: [proxyd.example]            # an example: names in URLs, beside the listeners' addresses

# SOCKS5, SOCKS4A and HTTP CONNECT clients. docs/howto-socks.md tells more.
# socks5:
#   listen: ["127.0.0.1:1080"]
#   auth:                              # an example; absent: no login, loopback only
#     - {user: admin, pass: env:SOCKS_PASS}
#     - {user: ann, pass: file:/etc/proxyd/ann.password, max_connections: 50, bandwidth: 10MB}
#   tls:                               # an example; without it passwords go in clear
#     certificate: /etc/proxyd/socks.pem
#     key: /etc/proxyd/socks.key
#   bind: false                        # true: BIND is served, for old FTP
#   pac: false                         # true: GET /proxy.pac gives the routes to a browser
#   auth_timeout: 30s                  # until a client must have said where it wants to go
#   connect_timeout: 30s               # of one dial
#   max_clients: 5000

# Ways out, beside the direct one.
# upstreams:
#   jump:                              # an example: SSH servers, in failover order
#     ssh: {user: ops, key: ~/.ssh/jump, port: 22, known_hosts: ~/.ssh/known_hosts}
#                                      # key absent: ssh-agent; passphrase: of an encrypted key;
#                                      # known_hosts absent: learnt at first sight, and kept
#     hosts: ["bastion-1.example", "bastion-2.example:2222"]
#     sessions: 1                      # connections to each, side by side
#     start: lazy                      # required: all failing at the start ends proxyd
#     resolve: remote                  # local: names are looked up, checked and pinned here
#   inner: {ssh: {user: ops}, hosts: [10.1.0.5], via: jump}    # an example: over another one
#   office: {agent: pc1}               # an example: a reverse agent, or a list of them
#   dev:                               # by AWS Session Manager, with SSH inside
#     ssh: {user: ec2-user, key: ~/.ssh/dev.pem}
#     aws: {profile: default}          # or region, access_key and secret_key
#     instances: [i-1, i-2]            # in failover order
#   prod: {aws: {profile: prod}, instances: [i-3], sessions: 4}   # its SSM agent forwards

# Which target goes which way: the first that matches.
# routes:
#   - {match: "10.0.0.0/8", upstream: jump}                    # examples
#   - {match: ["*.prod.internal", db.internal], ports: [5432, 8000-8100], upstream: jump}
#   - {match: "*.lab", users: [ann, "ops-*"], upstream: inner}
#   - {match: "169.254.0.0/16", deny: true}
#   - {match: "192.168.0.0/16", upstream: direct, max_connections: 100, bandwidth: 10MB}
# default: direct                      # an upstream, direct or deny

# Reverse agents: where they dial in, and local ports that lead through them.
# agents:
#   listen: ["127.0.0.1:8443"]
#   tls:                               # absent: proxyd's own certificate; none on loopback
#     certificate: /etc/proxyd/agents.pem   # examples
#     key: /etc/proxyd/agents.key           # mode: disable: ws:// from afar, too
#   ports: 1024-65535                  # which local ports the API may open
#   grace: 30s                         # how long ports and new users wait for a lost agent
#   proxies:                           # examples; all but the first four keys may be left out
#     - {client_id: pc1, remote_host: 192.168.1.100, remote_port: 3389, local_port: 13389,
#        bind: 127.0.0.1, allow: ["10.0.0.0/8"], bandwidth: 10MB, max_connections: 100,
#        idle_timeout: 30m, proxy_protocol: v2, pool: 2, compress: true}
"""
