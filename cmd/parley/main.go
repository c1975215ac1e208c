// Command parley is a Parley node with the example bots, and the tools around
// it: parley --help.
package main

import (
	"github.com/parleychat/parley/examples/concierge"
	"github.com/parleychat/parley/examples/greeter"
	"github.com/parleychat/parley/examples/pizza"
	"github.com/parleychat/parley/examples/tally"
	"github.com/parleychat/parley/node"
)

func main() {
	node.Main(greeter.Bot(), pizza.Bot(), tally.Bot(), concierge.Bot())
}
