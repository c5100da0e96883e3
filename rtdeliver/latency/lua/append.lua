-- Appends records of tracked events to the streams of their partitions.
--
-- ARGV[1]  prefix
-- ARGV[2]  how many records a stream may have
-- ARGV[3]  a partition, ARGV[4] a record for it, and so on
--
-- Returns how many records were appended.

for i = 3, #ARGV, 2 do
  redis.call('XADD', ARGV[1] .. 'latency:records:' .. ARGV[i], 'MAXLEN', '~', ARGV[2], '*',
    'record', ARGV[i + 1])
end
return (#ARGV - 2) / 2
