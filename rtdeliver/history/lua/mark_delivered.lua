-- Notes which events are delivered.
--
-- ARGV[1]     prefix
-- ARGV[2...]  for each event: NUMBER WAY TOPIC
--
-- Returns 1.

redis.call('ZREM', ARGV[1] .. 'history-claims', unpack(ARGV, 2))
return 1
