// Package embedded keeps everything in one directory of one machine, on Pebble.
//
// # The protocol
//
// One mutex orders all writes. A caller that holds it gets its numbers, checks
// what it wants against the indexes in memory, builds one Pebble batch for its
// whole group, hands that to Pebble without waiting for the disk and updates
// the indexes; so the order of the write-ahead log is the order of the mutex.
// It waits for the disk after it has let go of the mutex: callers that come at
// the same time share one fsync.
//
// In between, what is written is visible in memory and not yet durable. That is
// safe, because whoever builds on it writes after it into the same log: a record
// is never durable before the records that it depends on. And nobody is told
// before: Append, Commit, Claim, Settle, Fold, FireTimers, Lease, Release,
// ClaimCalls, SettleCalls, Register, Try and Acquit return after an fsync of the log
// behind their own record, which is also that of every earlier one. Claim and Settle
// don't ask for one while others do: an fsync that they asked for would keep the
// entrance waiting, and the next that somebody else asks for is theirs, too. If none
// comes in three times Config.SyncEvery, they do. Load may show rows whose fsync is under way; all
// that its caller can make of them is a commit, which lies behind them in the log.
//
// # What is in memory
//
// A conversation with one pending row costs about 220 bytes in the indexes, each
// further row 64 (measured); a conversation with an unsent message about 450,
// plus up to Config.OutboxCacheBytes of contents for all messages together. Two
// caches of a fixed number of entries, about 30 MB when they are full, hold the
// versions of conversations and the aliases of contacts. A channel costs about
// 1 KiB. Conversations that were merged cost something only as long as rows or
// messages of the younger are left. A call that isn't answered costs some
// hundred bytes. Nothing else grows: idle conversations cost no memory, nor do timers,
// history, receipts, deliveries, dead letters, quarantine and suspects. Open scans the
// inbox, the outbox and its marks, the due list, the calls and their marks, the
// receipts, the dead letters and the quarantine, and looks up the aliases of WhatsApp
// users who have rows or messages.
//
// # When the disk fails
//
// Below Config.ReserveBytes of free space Append and Release answer
// [parley.ErrFull], while what makes space goes on; below half of that
// nothing is written any more, with an error, so that Pebble itself keeps enough
// room for its own files. As soon as there is room, everything works again.
//
// An error of the write-ahead log (a failed write or fsync) leaves open what is
// on the disk, and asking again can't tell. The store then answers every call
// with that error and calls Config.Fatal, by default an exit of the process with
// status [ExitBroken]: what was acknowledged is found at the next start.
//
// The package imports the root package only.
package embedded
