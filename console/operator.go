package console

import (
	"context"
	"errors"

	"github.com/parleychat/parley"
)

// Operator is what the API shows and does; the node implements it.
type Operator interface {
	// Members are those that the node sees, draining ones included.
	Members(ctx context.Context) ([]Member, error)
	// Status asks all members how they are. That one of them doesn't answer is part
	// of the status, not an error.
	Status(ctx context.Context) (Status, error)
	// Where says who serves a conversation, whether there is one or not.
	Where(ctx context.Context, c parley.Conversation) (Place, error)
	// Drain makes a member give up what it owns; empty: this node. It returns once
	// that has begun, ErrNoMember if there is no such member, and ErrSilent if it
	// didn't answer. A member that drains already is no error.
	Drain(ctx context.Context, member string) error
}

// The errors of an Operator that have an answer of their own. All others are 503 if
// the store is unavailable or the time is up, and else 500.
var (
	ErrNoMember = errors.New("no such member")             // 404
	ErrSilent   = errors.New("the member does not answer") // 502
)

// Member is one run of a node's process.
type Member struct {
	Name     string   `json:"name" doc:"Its name: another one after each start"`
	Address  string   `json:"address" doc:"Where other members reach it, host:port"`
	Roles    []string `json:"roles" nullable:"false" doc:"What it does: ingress, actors, egress, console"`
	Version  string   `json:"version" doc:"Of its program"`
	Format   int      `json:"format" doc:"The newest format of what is stored and sent that it reads"`
	Draining bool     `json:"draining" doc:"It gives up what it owns, to leave"`
	Self     bool     `json:"self" doc:"It is the one that answers this request"`
	// Bots are those of the program that answers of which a member may read another
	// version than the first.
	Bots []BotVersion `json:"bots,omitempty" nullable:"false" doc:"Which versions of bots it reads; bots of version 1 everywhere are left out"`
}

// BotVersion is how far a member is with a bot.
type BotVersion struct {
	Name    string `json:"name" doc:"The bot's name"`
	Version int    `json:"version" doc:"The newest version of its state that the member reads"`
}

// Status is how a cluster is, as one node sees it.
type Status struct {
	Node  string `json:"node" doc:"Name of the member that answers this request"`
	Alone bool   `json:"alone" doc:"It is configured to find others, and sees none"`
	// ViewsAgree says that all members that answer see the same members.
	ViewsAgree    bool  `json:"views_agree" doc:"All members that answer see the same members"`
	ViewsDifferMS int64 `json:"views_differ_ms" doc:"For how long they don't; 0 while they agree"`
	Shards        struct {
		Total   int `json:"total" doc:"Shards that conversations are spread over"`
		Unowned int `json:"unowned" doc:"Shards that belong to nobody: there is no member with role actors"`
	} `json:"shards"`
	Backlog  *Backlog       `json:"backlog,omitempty" doc:"What waits in the store; absent if the store did not answer"`
	Members  []MemberStatus `json:"members" nullable:"false" doc:"By name"`
	Warnings []Warning      `json:"warnings" nullable:"false" doc:"What somebody should look at, the most urgent first"`
}

// MemberStatus is what a member tells of itself when it is asked. If it doesn't
// answer, only what membership knows is there: the Member and OwnedShards.
type MemberStatus struct {
	Member
	Answering         bool  `json:"answering" doc:"It answered this request. If not, all that follows but owned_shards is unknown, and 0"`
	OwnedShards       int   `json:"owned_shards" doc:"Shards that are its own, as the answering member sees it"`
	HeldShards        int   `json:"held_shards" doc:"Shards that it serves"`
	HandoversUnderWay int   `json:"handovers_under_way" doc:"Shards that it gives up or takes over just now"`
	LiveConversations int   `json:"live_conversations" doc:"Conversations in its memory"`
	HeldRows          int   `json:"held_rows" doc:"Inbox rows in its memory"`
	ActiveChannels    int   `json:"active_channels" doc:"Channels that it sends for just now"`
	ClockOffsetMS     int64 `json:"clock_offset_ms" doc:"How far its clock is ahead of that of the member that answers this request"`
	ViewAgrees        bool  `json:"view_agrees" doc:"It sees the same members as the one that answers this request"`
}

// holds reports whether there is anything that the member has not given up yet.
func (m *MemberStatus) holds() bool {
	return m.HeldShards+m.HandoversUnderWay+m.LiveConversations+m.ActiveChannels > 0
}

// Drained reports whether a member that was told to drain has nothing left.
func (m *MemberStatus) Drained() bool { return m.Answering && m.Draining && !m.holds() }

// Backlog is what waits in the store, of the whole cluster.
type Backlog struct {
	OldestPendingMS int64 `json:"oldest_pending_ms" doc:"How long the oldest event has waited to take effect"`
	PendingRows     int   `json:"pending_rows" doc:"Events that have not taken effect"`
	OutboxRows      int   `json:"outbox_rows" doc:"Messages that are not sent"`
	Timers          int   `json:"timers" doc:"Timers that are not due"`
	Calls           int   `json:"calls" doc:"Calls of services that are not answered"`
	OldestCallMS    int64 `json:"oldest_call_ms" doc:"How long ago the oldest of these was decided"`
	Receipts        int   `json:"receipts" doc:"Statuses and echoes that are not folded"`
	Quarantined     int   `json:"quarantined" doc:"Webhooks that could not be read, or whose channel is unknown"`
	DeadLetters     int   `json:"dead_letters" doc:"Events and messages that somebody should look at"`
}

// BacklogOf is b in the words of the API.
func BacklogOf(b parley.Backlog) *Backlog {
	return &Backlog{
		OldestPendingMS: b.Oldest.Milliseconds(), PendingRows: b.Pending, OutboxRows: b.Unsent, Timers: b.Timers,
		Calls: b.Calls, OldestCallMS: b.OldestCall.Milliseconds(),
		Receipts: b.Receipts, Quarantined: b.Quarantined, DeadLetters: b.Dead,
	}
}

// Warning is what somebody should look at. The operator may give some; the API adds
// those that follow from the status.
type Warning struct {
	Kind   string `json:"kind" doc:"A name that stays, for programs"`
	Text   string `json:"text" doc:"What is wrong"`
	Remedy string `json:"remedy" doc:"What to do about it"`
}

// Place is where a conversation is served.
type Place struct {
	Conversation string  `json:"conversation" doc:"brand/kind/channel/contact, as it is stored"`
	Shard        int     `json:"shard" doc:"That the conversation belongs to"`
	Owner        *Member `json:"owner,omitempty" doc:"Who handles its events; absent if no member has the role actors"`
	Live         *bool   `json:"live,omitempty" doc:"It is in its owner's memory; absent if the owner did not tell"`
	ChannelShard int     `json:"channel_shard" doc:"That its channel belongs to"`
	Sender       *Member `json:"sender,omitempty" doc:"Who sends for its channel; absent if no member has the role egress"`
}
