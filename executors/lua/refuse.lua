-- Refuses a signal as too old, for every web process: an earlier send of it, with a lower age, may still be on its way.
--
-- KEYS  1 signal  2 refused
-- ARGV  1 how long that is remembered, in ms
-- Returns 1; 0 when the signal is recorded, and nothing was done.

if redis.call('EXISTS', KEYS[1]) == 1 then return 0 end
redis.call('SET', KEYS[2], '1', 'PX', ARGV[1])
return 1
