-- Applies the announcement of a node. `common.lua` runs before this.
--
-- ARGV[1]   prefix
-- ARGV[2]   node
-- ARGV[3]   its URL
-- ARGV[4]   its incarnation
-- ARGV[5]   sequence of the announcement; one with 0 is always applied
-- ARGV[6]   sequence of the last announcement that was acknowledged
-- ARGV[7]   lease in milliseconds
-- ARGV[8]   1 if the counts replace all earlier counts of the node, otherwise 0
-- ARGV[9]   1 if the announcement makes sense only where its incarnation is known, otherwise 0
-- ARGV[10]  viewers by topic, as JSON; 0 removes the node from the topic's row
--
-- Returns 1 if the incarnation has been announced in full, otherwise 0.

local url, incarnation, sequence = ARGV[3], ARGV[4], tonumber(ARGV[5])
local after, lease_milliseconds, full = tonumber(ARGV[6]), ARGV[7], ARGV[8] == '1'
local is_sequel, counts = ARGV[9] == '1', cjson.decode(ARGV[10])

local held = redis.call('HMGET', node_key, 'incarnation', 'url', 'sequence', 'known')
if held[1] ~= incarnation or held[2] ~= url then
  -- A sequel comes too late here: another process has replaced the one that sent it.
  if held[1] and is_sequel then
    return 0
  end
  remove_node()
  held = {incarnation, url, '0', '0'}
end

-- The last acknowledged announcement is missing here: Redis has lost something.
if tonumber(held[3]) < after then
  held[4] = '0'
end

-- A later announcement was applied already.
if sequence > 0 and sequence <= tonumber(held[3]) then
  redis.call('HSET', node_key, 'known', held[4])
  return tonumber(held[4])
end

if full then
  for _, topic in ipairs(redis.call('SMEMBERS', topics_key)) do
    if not counts[topic] then
      counts[topic] = 0
    end
  end
end

local gained = 0
for topic, count in pairs(counts) do
  local row_key = prefix .. 'row:' .. topic
  local before = tonumber(redis.call('HGET', row_key, node) or 0)
  gained = gained + count - before
  if count > 0 then
    redis.call('HSET', row_key, node, count)
    if before == 0 then
      redis.call('SADD', topics_key, topic)
      changed[#changed + 1] = topic
    end
  elseif before > 0 then
    remove_from_row(topic)
  end
end

local known = full and '1' or held[4]
redis.call('HSET', node_key, 'url', url, 'incarnation', incarnation, 'known', known,
  'sequence', sequence > 0 and sequence or held[3])
redis.call('HINCRBY', node_key, 'viewers', gained)
redis.call('PEXPIRE', node_key, lease_milliseconds)
redis.call('SADD', prefix .. 'nodes', node)
publish_changes()
return tonumber(known)
