-- Stands before each script that changes the routing table.
--
-- Keys of the routing table, each with the prefix before it:
--
--   row:TOPIC    hash: node -> viewers
--   node:NODE    hash: url, incarnation, sequence, known, viewers; expires with the node's lease
--   topics:NODE  set of the topics that have the node in their row
--   nodes        set of the nodes that have announced themselves and were not taken out
--   changes      channel: topics whose row has gained or lost a node, joined by line breaks
--
-- A node has one lease for all its topics, so that renewing it costs the same however many they
-- are. A node without `node:NODE` is dead. Whoever finds a dead node in a row takes the node out.
--
-- ARGV[1]  prefix
-- ARGV[2]  node

local prefix, node = ARGV[1], ARGV[2]
local node_key, topics_key = prefix .. 'node:' .. node, prefix .. 'topics:' .. node

-- The topics for `changes`.
local changed = {}

local function take_out(topic)
  redis.call('HDEL', prefix .. 'row:' .. topic, node)
  redis.call('SREM', topics_key, topic)
  changed[#changed + 1] = topic
end

local function take_out_all()
  for _, topic in ipairs(redis.call('SMEMBERS', topics_key)) do
    take_out(topic)
  end
  redis.call('DEL', node_key)
  redis.call('SREM', prefix .. 'nodes', node)
end

local function tell()
  if #changed > 0 then
    redis.call('PUBLISH', prefix .. 'changes', table.concat(changed, '\n'))
  end
end
