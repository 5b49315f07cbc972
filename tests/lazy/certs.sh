#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# tests/lazy/certs.sh DIR - certificates for the tests of TLS, made anew: an authority (ca), another one (other), a server for localhost
# and 127.0.0.1 (server), a client, a server for another name (name), one whose time is over (expired), one revoked (revoked, crl)
set -eu
cd "$1"

key()
{
	certtool --generate-privkey --key-type ecdsa --curve secp256r1 --outfile "$1.key" 2>/dev/null
}

authority()
{
	key "$1"
	printf 'cn = "thaw test %s"\nca\ncert_signing_key\ncrl_signing_key\nexpiration_days = 30\n' "$1" >"$1.tmpl"
	certtool --generate-self-signed --load-privkey "$1.key" --template "$1.tmpl" --outfile "$1.pem" 2>/dev/null
}

# name authority, the template on standard input
signed()
{
	key "$1"
	cat >"$1.tmpl"
	certtool --generate-certificate --load-privkey "$1.key" --load-ca-certificate "$2.pem" --load-ca-privkey "$2.key" \
		--template "$1.tmpl" --outfile "$1.pem" 2>/dev/null
}

authority ca
authority other
here='dns_name = "localhost"
ip_address = "127.0.0.1"
tls_www_server
tls_www_client
signing_key'
signed server ca <<<"cn = \"localhost\"
serial = 10
expiration_days = 30
$here"
signed client ca <<<"cn = \"client\"
serial = 11
expiration_days = 30
tls_www_client
signing_key"
signed name ca <<<"cn = \"elsewhere.example\"
serial = 12
dns_name = \"elsewhere.example\"
expiration_days = 30
tls_www_server
signing_key"
signed expired ca <<<"cn = \"localhost\"
serial = 13
activation_date = \"2020-01-01 00:00:00\"
expiration_date = \"2021-01-01 00:00:00\"
$here"
signed revoked ca <<<"cn = \"localhost\"
serial = 14
expiration_days = 30
$here"
signed stranger other <<<"cn = \"localhost\"
serial = 15
expiration_days = 30
$here"
printf 'crl_next_update = 30\ncrl_number = 1\n' >crl.tmpl
certtool --generate-crl --load-ca-privkey ca.key --load-ca-certificate ca.pem --load-certificate revoked.pem \
	--template crl.tmpl --outfile crl.pem 2>/dev/null
