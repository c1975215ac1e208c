package postgres

import "github.com/parleychat/parley"

// Statements are all that the store sends, by the name of their constant.
func Statements() map[string]string {
	return map[string]string{
		"answerCallsSQL": answerCallsSQL, "claimCallsSQL": claimCallsSQL, "claimOthersSQL": claimOthersSQL, "laterCallsSQL": laterCallsSQL, "nextCallSQL": nextCallSQL, "yieldCallsSQL": yieldCallsSQL,
		"acquitSQL": acquitSQL, "againSQL": againSQL, "applySQL": applySQL, "backlogSQL": backlogSQL, "beginCopySQL": beginCopySQL,
		"buryMessagesSQL": buryMessagesSQL, "finishCopySQL": finishCopySQL, "noteCopiedSQL": noteCopiedSQL,
		"raiseNumbersSQL": raiseNumbersSQL, "readCopySQL": readCopySQL, "unfinishedSQL": unfinishedSQL,
		"claimSQL": claimSQL, "finalSQL": finalSQL, "fireSQL": fireSQL, "historySQL": historySQL, "snapshotsSQL": snapshotsSQL, "unsentSQL": unsentSQL,
		"holdSQL": holdSQL, "insertConversationsSQL": insertConversationsSQL, "insertQuarantinedSQL": insertQuarantinedSQL,
		"insertReceiptsSQL": insertReceiptsSQL, "insertRowsSQL": insertRowsSQL, "leaseSQL": leaseSQL, "listDaysSQL": listDaysSQL,
		"loadRowsSQL": loadRowsSQL, "loadSnapshotSQL": loadSnapshotSQL, "lockContactsSQL": lockContactsSQL,
		"lockConversationsSQL": lockConversationsSQL, "lockSnapshotsSQL": lockSnapshotsSQL, "lookUpSQL": lookUpSQL,
		"makeKnownSQL": makeKnownSQL, "nextDueSQL": nextDueSQL, "nextTimerSQL": nextTimerSQL, "noteMergedSQL": noteMergedSQL,
		"newestDeadSQL": newestDeadSQL, "oldestDeadSQL": oldestDeadSQL, "oneDeadSQL": oneDeadSQL, "takeDeadSQL": takeDeadSQL,
		"olderSQL": olderSQL, "orphanSQL": orphanSQL, "overdueEachSQL": overdueEachSQL, "overdueSQL": overdueSQL,
		"promoteSQL": promoteSQL, "pruneWatermarksSQL": pruneWatermarksSQL, "quarantinedSQL": quarantinedSQL, "raiseWatermarksSQL": raiseWatermarksSQL,
		"readAttemptedSQL": readAttemptedSQL, "readAttemptsSQL": readAttemptsSQL, "recallSQL": recallSQL, "readClaimedSQL": readClaimedSQL, "readClockSQL": readClockSQL,
		"readDeliveriesSQL": readDeliveriesSQL, "readReceiptsSQL": readReceiptsSQL, "readWatermarksSQL": readWatermarksSQL,
		"registeredSQL": registeredSQL, "registerSQL": registerSQL, "releaseSQL": releaseSQL, "removeReceiptsSQL": removeReceiptsSQL,
		"removeSQL": removeSQL, "renameContactsSQL": renameContactsSQL, "trySQL": trySQL, "vitalsSQL": vitalsSQL, "waitShortlySQL": waitShortlySQL, "writeDeliveriesSQL": writeDeliveriesSQL,
		"acceptRowsSQL": acceptRowsSQL, "acceptedSQL": acceptedSQL, "addUpSQL": addUpSQL, "closeBooksSQL": closeBooksSQL, "foldLedgerSQL": foldLedgerSQL,
		"forgetAcceptedSQL": forgetAcceptedSQL, "insertPostingsSQL": insertPostingsSQL, "ledgerSettingsSQL": ledgerSettingsSQL, "ledgerSQL": ledgerSQL,
		"openBooksSQL": openBooksSQL, "tidyingSQL": tidyingSQL, "takeBooksSQL": takeBooksSQL, "takeAcceptedSQL": takeAcceptedSQL,
		"readListsSQL": readListsSQL, "readOpenedSQL": readOpenedSQL, "readPostingsSQL": readPostingsSQL,
		"yieldSQL": yieldSQL, "yieldWaitingSQL": yieldWaitingSQL,
	}
}

// Settings are those of a session of the store's.
func Settings() [][2]string { return settings() }

// Prelude is what a transaction begins with where sessions are shared.
func Prelude() string { return preludeSQL() }

// OverdueWindow is how many rows are looked at for each conversation wanted.
const OverdueWindow = overdueWindow

// KeyBytesMax bounds the name of a conversation.
const KeyBytesMax = keyBytesMax

// BucketSize and NotOwn are SQL of the audit.
const (
	BucketSize = bucketSize
	NotOwn     = notOwn
)

// EncodeAccepted, DecodeAccepted, ConversationKey and ParseKey are stored forms.
func EncodeAccepted(all []parley.Accepted) []byte        { return encodeAccepted(all) }
func DecodeAccepted(b []byte) ([]parley.Accepted, error) { return decodeAccepted(b) }
func ConversationKey(c parley.Conversation) []byte       { return conversationKey(c) }
func ParseKey(b []byte) (parley.Conversation, error)     { return parseKey(b) }
