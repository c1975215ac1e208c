package main_test

import (
	"fmt"

	"github.com/parleychat/parley/meta/metatest"
)

// What befalls from outside: Meta's own troubles, and people who all want something.
const (
	graphRefuses      trouble = "the Graph API refuses all"
	graphThrottles    trouble = "the Graph API throttles all"
	graphLosesAnswers trouble = "answers of the Graph API lost"
	graphHangs        trouble = "the Graph API hangs"
	retryStorm        trouble = "a storm of retries"
	viralConversation trouble = "a viral conversation"
	massTimers        trouble = "timers all in one second"
)

const (
	stormCopies = 5  // deliveries of an event, at most
	viralRate   = 30 // messages per second in one conversation
	alarmed     = 300
)

// graph makes the Graph API treat sends badly for a while.
func (m *mix) graph(f metatest.Faults) func(act) string {
	return func(a act) string {
		m.sim.SetFaults(f)
		m.rest(a.lasts)
		m.sim.SetFaults(metatest.Faults{})
		return ""
	}
}

// storm delivers each event 1 to 5 times, in any order.
func (m *mix) storm(a act) string {
	m.sim.Storm(stormCopies)
	m.rest(a.lasts)
	m.sim.Storm(0)
	return ""
}

// viral has one conversation of Messenger get very much: WhatsApp's own limits would
// stretch the answers over an hour.
func (m *mix) viral(a act) string {
	people := m.sim.People()
	user := int(a.draw % uint64(len(people)))
	for people[user].Channel.Platform != metatest.Messenger {
		user = (user + 1) % len(people)
	}
	messages := int(viralRate * a.lasts.Seconds())
	m.sim.Viral(user, messages, a.lasts)
	m.rest(a.lasts)
	return fmt.Sprintf("%d messages", messages)
}

// alarm has many people be reminded in one second, at the end of twice the time.
func (m *mix) alarm(a act) string {
	m.sim.Alarm(int(a.draw%uint64(len(m.sim.People()))), alarmed, a.lasts)
	m.rest(2 * a.lasts)
	return fmt.Sprintf("%d timers", alarmed)
}
