-- Takes over the records of a partition that another joiner has read and not acknowledged.
--
-- ARGV[1]  prefix
-- ARGV[2]  joiner
-- ARGV[3]  partition
-- ARGV[4]  where to go on; 0-0 to begin
-- ARGV[5]  how many records to take over at most
--
-- Returns {where to go on, or 0-0 at the end; {id, record}, ...}.

local key = ARGV[1] .. 'latency:records:' .. ARGV[3]
if redis.call('EXISTS', key) == 0 then
  redis.call('XGROUP', 'CREATE', key, 'joiners', '0', 'MKSTREAM')
end
local claimed = redis.pcall('XAUTOCLAIM', key, 'joiners', ARGV[2], 0, ARGV[4], 'COUNT', ARGV[5])
if claimed.err then
  -- The group is missing.
  redis.call('XGROUP', 'CREATE', key, 'joiners', '0')
  return {'0-0'}
end
local answer = {claimed[1]}
for _, entry in ipairs(claimed[2]) do
  -- Before version 7, Redis returns an empty entry for one that the stream has dropped.
  if entry and entry[2] then
    answer[#answer + 1] = {entry[1], entry[2][2]}
  end
end
if claimed[1] == '0-0' then
  -- The joiners that are gone have nothing left to take over.
  for _, consumer in ipairs(redis.call('XINFO', 'CONSUMERS', key, 'joiners')) do
    local name, pending = consumer[2], consumer[4]
    if name ~= ARGV[2] and pending == 0 then
      redis.call('XGROUP', 'DELCONSUMER', key, 'joiners', name)
    end
  end
end
return answer
