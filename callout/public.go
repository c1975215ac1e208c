package callout

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"slices"
	"syscall"
)

var errPrivate = errors.New("its address is not of the public internet")

// reserved are the networks that nobody reaches by the public internet, or that are
// ways into another (RFC 6890 and IANA's registries of special-purpose addresses), as
// far as netip has no word for them. Of IPv6 only 2000::/3 is public.
func reserved() []netip.Prefix {
	var all []netip.Prefix
	for _, s := range []string{
		"0.0.0.0/8", "100.64.0.0/10", "192.0.0.0/24", "192.0.2.0/24", "192.88.99.0/24", "198.18.0.0/15",
		"198.51.100.0/24", "203.0.113.0/24", "240.0.0.0/4",
		"2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20",
	} {
		all = append(all, netip.MustParsePrefix(s))
	}
	return all
}

// public reports whether an address is of the public internet.
func public(ip netip.Addr) bool {
	ip = ip.WithZone("").Unmap()
	if !ip.IsGlobalUnicast() || ip.IsPrivate() {
		return false
	}
	if ip.Is6() && !netip.MustParsePrefix("2000::/3").Contains(ip) {
		return false
	}
	return !slices.ContainsFunc(reserved(), func(p netip.Prefix) bool { return p.Contains(ip) })
}

// dialPublic makes connections to public addresses only. A name is looked up once for a
// connection, and what is checked is the very address that is dialled, so there is no
// second look-up that could answer differently (DNS rebinding). A check that the dialer
// has already comes behind.
func dialPublic(d *net.Dialer) func(ctx context.Context, network, address string) (net.Conn, error) {
	behind := d.ControlContext
	d.ControlContext = func(ctx context.Context, network, address string, c syscall.RawConn) error {
		if err := onlyPublic(address); err != nil || behind == nil {
			return err
		}
		return behind(ctx, network, address, c)
	}
	return d.DialContext
}

// onlyPublic refuses an address that a name has led to.
func onlyPublic(address string) error {
	to, err := netip.ParseAddrPort(address)
	if err != nil || !public(to.Addr()) {
		return errPrivate
	}
	return nil
}
