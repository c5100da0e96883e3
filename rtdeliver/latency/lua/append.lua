-- Appends records of tracked events to the streams of their partitions.
--
-- Nothing is appended if nobody has read records here lately.
--
-- ARGV[1]  prefix
-- ARGV[2]  how many records a stream may have
-- ARGV[3]  for how many milliseconds a stream is kept to which nothing is appended
-- ARGV[4]  a partition, ARGV[5] a record for it, and so on
--
-- Returns how many records were appended.

if redis.call('EXISTS', ARGV[1] .. 'latency:wanted') == 0 then
  return 0
end
for i = 4, #ARGV, 2 do
  local key = ARGV[1] .. 'latency:records:' .. ARGV[i]
  redis.call('XADD', key, 'MAXLEN', '~', ARGV[2], '*', 'record', ARGV[i + 1])
  redis.call('PEXPIRE', key, ARGV[3])
end
return (#ARGV - 3) / 2
