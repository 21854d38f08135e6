-- Merges a terminal's reports forward into RTSS and RTRS; what is known already changes nothing.
--
-- KEYS  1 reports stream  2 instance  3 unsettled  4 outbox; then the order of each report
-- ARGV  1 journal_id  2 epoch; then for each report: order_id, report_seq, state, settled (0/1), position,
--       deadline_ms, report JSON, leg JSON
-- Returns the number of reports that were new.

local fresh = 0
local position = '0'
for i = 0, #KEYS - 5 do
  local order_key = KEYS[5 + i]
  local base = 3 + i * 8
  local order_id, seq, state = ARGV[base], tonumber(ARGV[base + 1]), ARGV[base + 2]
  local settled, deadline = ARGV[base + 3] == '1', ARGV[base + 5]
  position = ARGV[base + 4]
  local known = redis.call('HGET', order_key, 'report_seq')
  if not known then
    -- the store was rolled back behind this order: make its record again from the journal's leg
    redis.call('HSET', order_key, 'leg', ARGV[base + 7], 'overdue', '0')
    if not settled then redis.call('ZADD', KEYS[3], deadline, order_id) end
  end
  if not known or tonumber(known) < seq then
    redis.call('HSET', order_key, 'state', state, 'report_seq', ARGV[base + 1], 'report', ARGV[base + 6])
    redis.call('XADD', KEYS[1], '*', 'report', ARGV[base + 6])
    redis.call('ZREM', KEYS[4], order_id)
    if settled then
      redis.call('ZREM', KEYS[3], order_id)
      redis.call('HSET', order_key, 'overdue', '0')
    else
      redis.call('ZADD', KEYS[3], deadline, order_id)
    end
    fresh = fresh + 1
  end
end
redis.call('HSET', KEYS[2], 'journal_id', ARGV[1], 'epoch', ARGV[2], 'position', position)
return fresh
