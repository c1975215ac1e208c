package embedded

import "github.com/parleychat/parley"

// hear looks after an echo that may be somebody else's: see parley.Receipt.Whose. It
// reports whether that was all there is to do with it. An echo that can't be told
// yet goes behind the other receipts, so that it doesn't take their places.
func (t *txn) hear(ch *channel, f *fold, d *folded, r *parley.Receipt, said *parley.Echo) (bool, error) {
	r.Channel = ch.name
	c, err := t.final(parley.Conversation{Channel: ch.name, Contact: r.Contact})
	if err != nil {
		return false, err
	}
	lines, attempts, err := t.attempts(ch, f, c.Contact)
	if err != nil {
		return false, err
	}
	switch of, i := r.Whose(said, attempts, fromMS(t.now)); of {
	case parley.EchoOfOther:
		p, err := t.tells(c, *said, r.EchoKey())
		if err != nil {
			return false, err
		}
		p.Time = millis(r.Time)
		f.rows = append(f.rows, p)
		return true, nil
	case parley.EchoUndecided:
		f.held = append(f.held, *r)
		return true, nil
	case parley.EchoProof:
		f.proven[lines[i]] = true
		d.accept(lines[i], t.now)
	case parley.EchoOfOurs:
	}
	return false, nil
}

// attempts is what parley.Receipt.Whose asks for, and the lines that they lead.
func (t *txn) attempts(ch *channel, f *fold, c parley.Contact) (lines []*line, attempts []parley.Attempt, err error) {
	if !f.asked {
		f.asked, f.posts = true, ch.claimedPosts()
	}
	if l := ch.lines[c]; l != nil && !f.proven[l] && (l.mark.doubtful || l.state == lineClaimed || l.state == lineOrphan) {
		lines = append(lines, l)
	}
	for _, l := range f.posts {
		if l.contact != c && !f.proven[l] {
			lines = append(lines, l)
		}
	}
	for _, l := range lines {
		o, err := t.content(ch, l)
		if err != nil {
			return nil, nil, err
		}
		attempts = append(attempts, parley.Attempt{
			Outgoing: o, Claimed: fromMS(l.mark.at), Open: l.state == lineClaimed, Doubtful: l.mark.doubtful,
		})
	}
	return lines, attempts, nil
}

// claimedPosts is the lines of posts whose heads are claimed.
func (o *outbox) claimedPosts() (posts []*line) {
	for _, l := range o.attempted {
		if sort, _ := l.contact.Split(); sort == parley.SubjectKey && l.state == lineClaimed {
			posts = append(posts, l)
		}
	}
	return posts
}
