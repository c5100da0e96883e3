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
-- ARGV[10]  number of this part of a full announcement
-- ARGV[11]  1 if further parts follow, otherwise 0
-- ARGV[12]  token of the message on the channel `changes`
-- ARGV[13]  how many topics have counts that changed
-- ARGV[14]  the first of these topics, ARGV[15] its viewers, and so on; 0 removes the node from the
--           topic's row. After these come the topics, and their viewers, whose rows the table should
--           have already.
--
-- Returns {known, replaced, connections that hear of the change, restored topics...}:
--   known     1 if the table has all that the incarnation has announced, otherwise 0
--   replaced  1 if another incarnation has taken its place, otherwise 0

local node, url, incarnation, sequence = ARGV[2], ARGV[3], ARGV[4], tonumber(ARGV[5])
local after, lease_milliseconds, full = tonumber(ARGV[6]), ARGV[7], ARGV[8] == '1'
local is_sequel, part, more, token = ARGV[9] == '1', tonumber(ARGV[10]), ARGV[11] == '1', ARGV[12]
local first_held = 14 + 2 * tonumber(ARGV[13])
local node_key, topics_key = key_of('node', node), key_of('topics', node)
local staged_key, table_key = key_of('staged', node), prefix .. 'table'

local time = redis.call('TIME')
redis.call('HSETNX', table_key, 'born', time[1] * 1000 + math.floor(time[2] / 1000))

local held = redis.call('HMGET', node_key, 'incarnation', 'url', 'sequence', 'known', 'parts')
if held[1] ~= incarnation or held[2] ~= url then
  -- A sequel comes too late here: another process has replaced the one that sent it.
  if held[1] and is_sequel then
    return {0, 1, 0}
  end
  if is_sequel then
    redis.call('HSET', table_key, 'lost', '1')
  end
  remove_node(node)
  held = {incarnation, url, '0', '0', '0'}
end
local known, parts = held[4], tonumber(held[5] or 0)

-- The last acknowledged announcement is missing here: Redis has lost something.
if tonumber(held[3]) < after then
  known = '0'
end

-- A later announcement was applied already.
if sequence > 0 and sequence <= tonumber(held[3]) then
  redis.call('HSET', node_key, 'known', known)
  return {tonumber(known), 0, 0}
end

local staging = full or (part > 0 and part == parts)
if full then
  known, parts = '0', 0
  redis.call('DEL', staged_key)
elseif part > 0 and not staging then
  known = '0'
end

local gained, staged_viewers, restored = 0, 0, {}

-- Returns whether the row was there.
local function set_row(topic, count)
  local row_key = key_of('row', topic)
  local before = tonumber(redis.call('HGET', row_key, node) or 0)
  gained = gained + count - before
  if count > 0 then
    redis.call('HSET', row_key, node, count)
    -- A row that another incarnation has left may still have its entry: then the topic is new.
    local is_new = redis.call('SADD', topics_key, topic) == 1
    if is_new or before == 0 then
      changed[#changed + 1] = topic
    end
    if staging then
      redis.call('SADD', staged_key, topic)
      staged_viewers = staged_viewers + count
    end
    return before > 0
  end
  redis.call('SREM', topics_key, topic)
  if redis.call('HDEL', row_key, node) == 1 then
    changed[#changed + 1] = topic
  end
  return true
end

for i = 14, first_held - 1, 2 do
  set_row(ARGV[i], tonumber(ARGV[i + 1]))
end
for i = first_held, #ARGV, 2 do
  if not set_row(ARGV[i], tonumber(ARGV[i + 1])) then
    restored[#restored + 1] = ARGV[i]
  end
end

redis.call('HSET', node_key, 'url', url, 'incarnation', incarnation,
  'sequence', sequence > 0 and sequence or held[3])
redis.call('HINCRBY', node_key, 'viewers', gained)
if staging then
  if full then
    redis.call('HSET', node_key, 'staged_viewers', 0)
  end
  staged_viewers = redis.call('HINCRBY', node_key, 'staged_viewers', staged_viewers)
  parts = parts + 1
  if not more then
    known, parts = '1', 0
    -- The node leaves all rows that the announcement does not have.
    redis.call('HSET', node_key, 'viewers', staged_viewers)
    if redis.call('EXISTS', topics_key) == 1 then
      redis.call('RENAME', topics_key, key_of('old', node))
    end
    if redis.call('EXISTS', staged_key) == 1 then
      redis.call('RENAME', staged_key, topics_key)
    end
    leave(node, key_of('old', node))
  end
end
redis.call('HSET', node_key, 'known', known, 'parts', parts)
redis.call('PEXPIRE', node_key, lease_milliseconds)
redis.call('SADD', prefix .. 'nodes', node)
local answer = {staging and 1 or tonumber(known), 0, publish_changes(token)}
for i, topic in ipairs(restored) do
  answer[3 + i] = topic
end
return answer
