// Command parley is a Parley node with the example bots, and the tools around
// it: parley --help.
package main

import (
	"github.com/parleychat/parley/examples/appointment"
	"github.com/parleychat/parley/examples/concierge"
	"github.com/parleychat/parley/examples/faq"
	"github.com/parleychat/parley/examples/gallery"
	"github.com/parleychat/parley/examples/greeter"
	"github.com/parleychat/parley/examples/lead"
	"github.com/parleychat/parley/examples/pizza"
	"github.com/parleychat/parley/examples/pizzeria"
	"github.com/parleychat/parley/examples/tally"
	"github.com/parleychat/parley/node"
)

func main() {
	node.Main(
		pizza.Bot(), appointment.Bot(), concierge.Bot(), faq.Bot(), gallery.Bot(), greeter.Bot(), lead.Bot(), pizzeria.Bot(), tally.Bot(), tally.Caller(),
	)
}
