-- Refuses a signal, for every web process: an earlier send of it may still be on its way. As too old, since that one may have
-- said a lower age; or by what its user may, since that one's targets may have been resolved before this has changed.
--
-- KEYS  1 signal  2 refused
-- ARGV  1 how long that is remembered, in ms  2 "1": too old; else the access version under which it is refused
-- Returns 1; 0 when the signal is recorded, and nothing was done.

if redis.call('EXISTS', KEYS[1]) == 1 then return 0 end
if ARGV[2] ~= '1' and redis.call('GET', KEYS[2]) == '1' then return 1 end
redis.call('SET', KEYS[2], ARGV[2], 'PX', ARGV[1])
return 1
