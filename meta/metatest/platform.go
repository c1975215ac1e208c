package metatest

import (
	"fmt"
	"strconv"
)

// Platform is one of Meta's three messaging platforms.
type Platform string

// The platforms.
const (
	Messenger Platform = "messenger"
	Instagram Platform = "instagram"
	WhatsApp  Platform = "whatsapp"
)

// Indices of the platforms, for arrays; the order is that of [Shares] and
// [Counts].
const (
	onMessenger = iota
	onInstagram
	onWhatsApp
	platforms
)

func platformAt(i int) Platform {
	return [platforms]Platform{Messenger, Instagram, WhatsApp}[i]
}

// Channel is one entrance of the simulated business: a Page, an Instagram
// account or a WhatsApp number.
type Channel struct {
	Platform Platform `json:"platform"`
	ID       string   `json:"id"`      // Page id, Instagram account id, phone_number_id
	Account  string   `json:"account"` // the WhatsApp Business Account that has the number; else empty
	Token    string   `json:"-"`       // what the Graph API wants to see from its sender
	index    int      // of the platform
	display  string   // WhatsApp: the number as people know it
}

// channelsFor makes the channels, platform after platform.
func channelsFor(cfg Config) []Channel {
	var all []Channel
	for p, n := range [platforms]int{cfg.Channels.Messenger, cfg.Channels.Instagram, cfg.Channels.WhatsApp} {
		for i := range n {
			all = append(all, newChannel(cfg.Seed, p, i))
		}
	}
	return all
}

func newChannel(seed uint64, p, i int) Channel {
	const numbersPerAccount = 4
	c := Channel{Platform: platformAt(p), index: p}
	switch p {
	case onMessenger:
		c.ID = strconv.Itoa(100_200_300_400_000 + i)
	case onInstagram:
		c.ID = strconv.Itoa(17_841_400_000_000_000 + i)
	case onWhatsApp:
		c.ID = strconv.Itoa(106_540_352_000_000 + i)
		c.Account = strconv.Itoa(102_290_129_340_000 + i/numbersPerAccount)
		c.display = fmt.Sprintf("1555%07d", i)
	}
	c.Token = fmt.Sprintf("EAAsim%016x%016x", mix(seed, uint64(p)+1), mix(seed, uint64(i)+1000))
	return c
}

// mix is the finaliser of splitmix64 over two numbers: names and ids that look
// random, are the same for the same seed, and need not be stored.
func mix(a, b uint64) uint64 {
	x := a + (b+1)*0x9e3779b97f4a7c15
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}
