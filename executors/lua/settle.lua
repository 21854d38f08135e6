-- Settles an order whose executor was stated to be dead: the projection moves without a journal.
--
-- KEYS  1 order  2 reports stream  3 unsettled  4 outbox  5 settlements  6 instance
-- ARGV  1 order_id  2 the report_seq that the operator has seen  3 report JSON  4 settlement JSON
--       5 ms for which the executor must have been silent
-- Returns {"DONE"} | {"GONE"} | {"ALIVE", silent_ms} | {"MOVED", state}

local known = redis.call('HMGET', KEYS[1], 'report_seq', 'state')
if not known[1] then return { 'GONE' } end
if known[1] ~= ARGV[2] or known[2] == 'MANUAL' then return { 'MOVED', known[2] } end

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local silent = now - tonumber(redis.call('HGET', KEYS[6], 'seen_ms') or '0')
if silent < tonumber(ARGV[5]) then return { 'ALIVE', string.format('%.0f', silent) } end

local seq = string.format('%.0f', tonumber(ARGV[2]) + 1)
redis.call('HSET', KEYS[1], 'state', 'MANUAL', 'report_seq', seq, 'report', ARGV[3], 'overdue', '0')
redis.call('XADD', KEYS[2], '*', 'report', ARGV[3])
redis.call('ZREM', KEYS[3], ARGV[1])
redis.call('ZREM', KEYS[4], ARGV[1])
-- should that executor, or another one of the terminal, come after all: its journal takes it before any order runs
redis.call('HSET', KEYS[5], ARGV[1], ARGV[4])
return { 'DONE' }
