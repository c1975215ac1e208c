#!/usr/bin/env bash
# Makes what the nodes of a cluster need to trust each other, and their configurations
# from cluster.yaml:
#
#     deployments/cluster.sh DIR ADDRESS...
#     deployments/cluster.sh /tmp/cluster 10.0.0.1 10.0.0.2 10.0.0.3
#
# DIR/nodeN is for the Nth machine, as /etc/parley. DIR/ca.key signs certificates of
# further nodes: keep it where no node is. A second call with the same DIR adds what
# isn't there yet, a node at the end for example, and changes nothing that is.
set -euo pipefail
umask 077 # keys are for their owner

say() { printf '%s\n' "$*" >&2; }

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
if (($# < 2)); then
	say "usage: ${BASH_SOURCE[0]} DIR ADDRESS..."
	exit 2
fi
dir=$1
shift
authority_days=3650
node_days=825

mkdir -p "$dir"
cd "$dir"

[[ -e gossip.key ]] || openssl rand -base64 32 >gossip.key

if [[ ! -e ca.key ]]; then
	openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -sha256 -days "$authority_days" \
		-subj '/CN=Parley cluster' -addext basicConstraints=critical,CA:TRUE,pathlen:0 \
		-addext keyUsage=critical,keyCertSign,cRLSign -keyout ca.key -out ca.crt 2>/dev/null
fi

# certify NAME ADDRESS makes NAME/node.key and NAME/node.crt. A node is a server to
# others and a client of them, so its certificate is for both.
certify() {
	openssl req -new -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -sha256 \
		-subj "/CN=$1" -keyout "$1/node.key" -out "$1/node.csr" 2>/dev/null
	openssl x509 -req -in "$1/node.csr" -CA ca.crt -CAkey ca.key -CAcreateserial -sha256 -days "$node_days" \
		-extfile <(printf 'subjectAltName=IP:%s,DNS:%s\nextendedKeyUsage=serverAuth,clientAuth\nkeyUsage=critical,digitalSignature\nbasicConstraints=critical,CA:FALSE\n' "$2" "$1") \
		-out "$1/node.crt" 2>/dev/null
	rm "$1/node.csr"
}

join=$(printf ', %s:7946' "$@")
n=0
for address; do
	node=node$((++n))
	mkdir -p "$node"
	[[ -e $node/node.crt ]] || certify "$node" "$address"
	cp ca.crt gossip.key "$node/"
	[[ -e $node/cluster.yaml ]] || sed -E \
		-e "s/^( *(listen|admin|bind|messages): )10\.0\.0\.1:/\1$address:/" \
		-e "s/^( *join: )\[[^]]*\]/\1[${join:2}]/" "$here/cluster.yaml" >"$node/cluster.yaml"
done

# The secrets that cluster.yaml takes from the environment, and those of the database
# that compose.yaml starts. Those of the app are Meta's to give.
if [[ ! -e parley.env ]]; then
	password=$(openssl rand -hex 24)
	cat >postgres.env <<-END
		POSTGRES_USER=parley
		POSTGRES_DB=parley
		POSTGRES_PASSWORD=$password
	END
	cat >parley.env <<-END
		PARLEY_ADMIN_TOKEN=$(openssl rand -hex 24)
		DATABASE_URL=postgres://parley:$password@postgres:5432/parley
		SHOP_APP_SECRET=from-the-dashboard-of-the-app
		SHOP_VERIFY_TOKEN=$(openssl rand -hex 16)
		ACME_PAGE_TOKEN=from-the-dashboard-of-the-app
	END
fi
say "made $n nodes in $PWD. Put Meta's secrets into parley.env."
